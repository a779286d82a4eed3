//! `./kijko billing reconcile`: every subscription at Stripe beside the mirrored ones. Nothing is changed: a difference is a
//! webhook that never came, or something that a person has to decide.

use serde_json::{Value, json};

use super::{client::Stripe, fault::CommandError, store::Store, sync::all};

/// Prints a line for each difference. How many there are.
pub(super) async fn reconcile(stripe: &Stripe, store: &Store) -> Result<usize, CommandError> {
    let id = |it: &Value| it["id"].as_str().unwrap_or_default().to_owned();
    let found: Vec<Value> = all(stripe, "/v1/subscriptions", json!({"status": "all"}), id).await?;
    let found: Vec<Value> = found.iter().map(facts).collect();
    let differences = store.compare(&Value::Array(found)).await?;
    for difference in &differences {
        println!("{difference}");
    }
    Ok(differences.len())
}

/// What is compared.
fn facts(subscription: &Value) -> Value {
    let items = subscription["items"]["data"].as_array();
    let items = items.into_iter().flatten().map(|item| {
        json!({"id": item["id"], "price": item["price"]["id"], "quantity": item["quantity"]})
    });
    json!({
        "id": subscription["id"], "status": subscription["status"], "customer": subscription["customer"],
        "cancel_at_period_end": subscription["cancel_at_period_end"], "items": items.collect::<Vec<_>>()
    })
}
