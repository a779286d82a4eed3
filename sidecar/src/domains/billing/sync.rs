//! `./kijko billing sync`: the catalogue's products, meters, prices and the portal at Stripe. What is there is matched, by ids,
//! names and lookup keys; what is missing is made; nothing is deleted.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    client::{Stripe, StripeError, new_key},
    fault::CommandError,
    params::{Created, List},
    store::Store,
};

/// What the database sells.
#[derive(Debug, Deserialize)]
struct Catalogue {
    products: Vec<Plan>,
    meters: Vec<String>,
    prices: Vec<Price>,
}

#[derive(Debug, Deserialize)]
struct Plan {
    plan: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Price {
    lookup_key: String,
    plan: String,
    recurring_interval: String,
    kind: String,
    meter: Option<String>,
    units: i64,
    amount_cents: i64,
    currency: String,
}

// ---- what Stripe has

#[derive(Debug, Deserialize)]
struct StripeMeter {
    id: String,
    event_name: String,
}

#[derive(Debug, Deserialize)]
struct StripePrice {
    id: String,
    lookup_key: Option<String>,
    product: String,
    currency: String,
    unit_amount: Option<i64>,
    recurring: Option<Recurring>,
    transform_quantity: Option<Transform>,
}

#[derive(Debug, Deserialize)]
struct Recurring {
    interval: String,
    usage_type: String,
    meter: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Transform {
    divide_by: i64,
    round: String,
}

#[derive(Debug, Deserialize)]
struct Configuration {
    id: String,
    #[serde(default)]
    metadata: std::collections::BTreeMap<String, String>,
}

/// A page of a list of all.
#[derive(Debug, Serialize)]
struct All<'a> {
    limit: u32,
    starting_after: Option<&'a str>,
    #[serde(flatten)]
    filter: Value,
}

const METERS: &str = "/v1/billing/meters";

/// Compares, and makes what is missing unless it is a dry run.
pub(super) struct Sync<'a> {
    pub stripe: &'a Stripe,
    pub store: &'a Store,
    pub dry_run: bool,
}

impl Sync<'_> {
    /// Prints a line for each object. How many were, or would be, made.
    pub(super) async fn run(&self) -> Result<usize, CommandError> {
        let catalogue: Catalogue = self.store.catalogue().await?;
        let mut made = 0;
        for plan in &catalogue.products {
            made += self.product(plan).await?;
        }
        made += self.meters(&catalogue.meters).await?;
        // Those that were made are among them; in a dry run some are still missing.
        let meters = self.active_meters().await?;
        for price in &catalogue.prices {
            made += self.price(price, &meters).await?;
        }
        made += self.portal().await?;
        Ok(made)
    }

    async fn product(&self, plan: &Plan) -> Result<usize, CommandError> {
        let id = product_id(&plan.plan);
        let path = format!("/v1/products/{id}");
        match self.stripe.get::<Created>(&path, &json!({})).await {
            Ok(found) => self.matched("product", &plan.plan, &found.id).await,
            Err(error) if error.is_missing() => {
                let params = json!({
                    "id": id, "name": format!("Kijko {}", plan.name), "metadata": {"kijko_plan": plan.plan}
                });
                self.make("product", &plan.plan, "/v1/products", &params)
                    .await
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn meters(&self, meters: &[String]) -> Result<usize, CommandError> {
        let present = self.active_meters().await?;
        let mut made = 0;
        for meter in meters {
            made += match find(&present, meter) {
                Some(found) => self.matched("meter", meter, &found.id).await?,
                None => {
                    let params = json!({
                        "display_name": meter, "event_name": event_name(meter),
                        "default_aggregation": {"formula": "sum"},
                        "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
                        "value_settings": {"event_payload_key": "value"}
                    });
                    self.make("meter", meter, METERS, &params).await?
                }
            };
        }
        Ok(made)
    }

    async fn active_meters(&self) -> Result<Vec<StripeMeter>, StripeError> {
        let id = |meter: &StripeMeter| meter.id.clone();
        all(self.stripe, METERS, json!({"status": "active"}), id).await
    }

    async fn price(&self, price: &Price, meters: &[StripeMeter]) -> Result<usize, CommandError> {
        let path = "/v1/prices";
        let filter = json!({"lookup_keys": [price.lookup_key], "active": true, "limit": 1});
        let found: List<StripePrice> = self.stripe.get(path, &filter).await?;
        let present = found.data.into_iter().next();
        let meter = price.meter.as_deref().and_then(|it| find(meters, it));
        let meter = meter.map(|it| it.id.as_str());
        if let Some(present) = &present
            && price.is(present, meter)
        {
            return self.matched("price", &price.lookup_key, &present.id).await;
        }
        let params = price.params(meter);
        let made = self.make("price", &price.lookup_key, path, &params).await?;
        // Subscriptions stay at the former price, and nobody buys it any more.
        if let Some(former) = present
            && !self.dry_run
        {
            let path = format!("/v1/prices/{}", former.id);
            let params = json!({"active": false});
            let _: Created = self.stripe.post(&path, &params, &new_key()).await?;
        }
        Ok(made)
    }

    async fn portal(&self) -> Result<usize, CommandError> {
        let path = "/v1/billing_portal/configurations";
        let id = |it: &Configuration| it.id.clone();
        let present = all(self.stripe, path, json!({"active": true}), id).await?;
        let ours = |it: &&Configuration| it.metadata.get("kijko").is_some_and(|it| it == "default");
        if let Some(found) = present.iter().find(ours) {
            return self.matched("portal", "default", &found.id).await;
        }
        // Plans are changed and ended by the product's own functions, and VAT numbers are checked by them.
        let params = json!({
            "metadata": {"kijko": "default"},
            "features": {
                "invoice_history": {"enabled": true},
                "payment_method_update": {"enabled": true},
                "customer_update": {"enabled": true, "allowed_updates": ["email"]},
                "subscription_cancel": {"enabled": false},
                "subscription_update": {"enabled": false}
            }
        });
        self.make("portal", "default", path, &params).await
    }

    async fn matched(&self, kind: &str, name: &str, id: &str) -> Result<usize, CommandError> {
        println!("matched {kind} {name} {id}");
        if !self.dry_run {
            self.store.record_object(kind, name, id).await?;
        }
        Ok(0)
    }

    async fn make(
        &self,
        kind: &str,
        name: &str,
        path: &str,
        params: &Value,
    ) -> Result<usize, CommandError> {
        if self.dry_run {
            println!("would make {kind} {name}");
            return Ok(1);
        }
        let made: Created = self.stripe.post(path, params, &new_key()).await?;
        println!("made {kind} {name} {}", made.id);
        self.store.record_object(kind, name, &made.id).await?;
        Ok(1)
    }
}

/// Every object of a list, page by page.
pub(super) async fn all<T: serde::de::DeserializeOwned>(
    stripe: &Stripe,
    path: &str,
    filter: Value,
    id: impl Fn(&T) -> String,
) -> Result<Vec<T>, StripeError> {
    let mut found: Vec<T> = Vec::new();
    loop {
        let last = found.last().map(&id);
        let query = All {
            limit: 100,
            starting_after: last.as_deref(),
            filter: filter.clone(),
        };
        let page: List<T> = stripe.get(path, &query).await?;
        let more = page.has_more && !page.data.is_empty();
        found.extend(page.data);
        if !more {
            return Ok(found);
        }
    }
}

impl Price {
    fn is(&self, other: &StripePrice, meter: Option<&str>) -> bool {
        let transform = other.transform_quantity.as_ref();
        other.lookup_key.as_deref() == Some(&self.lookup_key)
            && other.product == product_id(&self.plan)
            && other.currency == self.currency
            && other.unit_amount == Some(self.amount_cents)
            && other.recurring.as_ref().is_some_and(|it| {
                it.interval == self.recurring_interval
                    && it.usage_type == self.usage_type()
                    && it.meter.as_deref() == meter
            })
            && transform.map_or(1, |it| it.divide_by) == self.units
            && transform.is_none_or(|it| it.round == "up")
    }

    fn usage_type(&self) -> &'static str {
        match self.kind.as_str() {
            "metered" => "metered",
            _ => "licensed",
        }
    }

    fn params(&self, meter: Option<&str>) -> Value {
        let mut params = json!({
            "product": product_id(&self.plan), "currency": self.currency, "unit_amount": self.amount_cents,
            "recurring": {"interval": self.recurring_interval, "usage_type": self.usage_type(), "meter": meter},
            "tax_behavior": "exclusive", "lookup_key": self.lookup_key, "transfer_lookup_key": true,
            "nickname": self.lookup_key
        });
        if self.units > 1 {
            params["transform_quantity"] = json!({"divide_by": self.units, "round": "up"});
        }
        params
    }
}

fn product_id(plan: &str) -> String {
    format!("kijko_{}", plan.to_ascii_lowercase())
}

fn find<'a>(meters: &'a [StripeMeter], meter: &str) -> Option<&'a StripeMeter> {
    let name = event_name(meter);
    meters.iter().find(|it| it.event_name == name)
}

/// The name by which use is reported.
fn event_name(meter: &str) -> String {
    format!("kijko_{meter}")
}
