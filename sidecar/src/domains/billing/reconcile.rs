//! `./kijko billing reconcile`: every subscription and every customer at Stripe beside the mirrored ones. Nothing is changed: a difference is a
//! webhook that never came, or something that a person has to decide.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{client::Stripe, fault::CommandError, store::Store, sync::all};

/// Prints a line for each difference. How many there are.
pub(super) async fn reconcile(stripe: &Stripe, store: &Store) -> Result<usize, CommandError> {
    let id = |it: &Value| it["id"].as_str().unwrap_or_default().to_owned();
    let found: Vec<Value> = all(stripe, "/v1/subscriptions", json!({"status": "all"}), id).await?;
    let found: Vec<Value> = found.iter().map(facts).collect();
    let mut differences = store.compare(&Value::Array(found)).await?;
    let id = |it: &Customer| it.id.clone();
    let customers: Vec<Customer> = all(stripe, "/v1/customers", json!({}), id).await?;
    // Those without an organization are of another program that uses the account.
    let customers = customers.iter().filter_map(|it| {
        let org_id = it.metadata.get("org_id")?;
        Some(json!({"id": it.id, "org_id": org_id}))
    });
    let customers = customers.collect();
    differences.extend(store.compare_customers(&customers).await?);
    for difference in &differences {
        println!("{difference}");
    }
    Ok(differences.len())
}

/// What of a customer is compared.
#[derive(Deserialize)]
struct Customer {
    id: String,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

/// What of a subscription is compared.
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
