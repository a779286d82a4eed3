//! What the functions do at Stripe, with the parameters that the database has made.

use kijko_core::{db::DbError, error::Error};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    client::{Stripe, StripeError, new_key},
    params::{
        Changed, Checkout, Created, Customer, CustomerPage, CustomerParams, Invoice, LatestInvoice,
        List, Page, PaymentMethod, Preview, PreviewInvoice, Redirect, SessionStatus, Subscription,
        TaxRate, Ticket, Work,
    },
    store::Store,
};

/// The account, and what the database knows of it.
#[derive(Debug, Clone)]
pub(super) struct Operations {
    pub stripe: Stripe,
    pub store: Store,
}

/// Why an operation did not come about.
#[derive(Debug)]
pub(super) enum Failure {
    Error(Error),
    Stripe(StripeError),
    /// A checkout of the organization was paid a moment ago.
    Paid,
}

impl From<StripeError> for Failure {
    fn from(error: StripeError) -> Self {
        Self::Stripe(error)
    }
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self::Error(error.into())
    }
}

impl Operations {
    /// Does what a ticket allows. `key`: the caller's own idempotency key.
    pub(super) async fn run(
        &self,
        action: &str,
        ticket: &str,
        key: Option<&str>,
    ) -> Result<Value, Failure> {
        let opened = self.store.open(ticket).await?;
        let Ticket { org_id, work } = opened.ok_or_else(|| {
            Failure::Error(Error::Unavailable {
                cause: "the ticket has expired, or is of the other mode of Stripe".to_owned(),
            })
        })?;
        // A key of one organization says nothing about another's.
        let key = match key {
            Some(key) => format!("kijko-{org_id}-{action}-{key}"),
            None => new_key(),
        };
        match work {
            Work::Checkout(checkout) => answer(self.checkout(org_id, *checkout, &key).await?),
            Work::Portal { portal } => {
                let path = "/v1/billing_portal/sessions";
                answer(self.stripe.post::<Redirect>(path, &portal, &key).await?)
            }
            Work::Preview {
                proration_date,
                invoice,
            } => {
                let path = "/v1/invoices/create_preview";
                let invoice: PreviewInvoice = self.stripe.post(path, &invoice, &key).await?;
                answer(Preview {
                    proration_date,
                    currency: invoice.currency,
                    subtotal: invoice.subtotal,
                    total: invoice.total,
                    amount_due: invoice.amount_due,
                    lines: invoice.lines.data,
                })
            }
            Work::Update {
                subscription,
                update,
            } => {
                let path = format!("/v1/subscriptions/{subscription}");
                let changed: Subscription = self.stripe.post(&path, &update, &key).await?;
                answer(Changed::from(changed))
            }
            Work::PaymentMethods { customer, list } => {
                answer(self.payment_methods(customer.as_deref(), &list).await?)
            }
            Work::Invoices { customer, list } => {
                answer(self.invoices(customer.as_deref(), &list).await?)
            }
        }
    }

    async fn checkout(
        &self,
        org: Uuid,
        checkout: Checkout,
        key: &str,
    ) -> Result<Redirect, Failure> {
        let Checkout {
            customer,
            tax_rate,
            mut session,
        } = checkout;
        session.customer = Some(self.customer(org, customer).await?);
        if let Some(rate) = tax_rate {
            session.subscription_data.default_tax_rates = vec![self.tax_rate(rate).await?];
        }
        let has_trial = session.subscription_data.trial_period_days.is_some();
        let path = "/v1/checkout/sessions";
        let made: Redirect = self.stripe.post(path, &session, key).await?;
        let earlier = self.store.record_session(org, &made.id, has_trial).await?;
        for session in earlier.ok_or(Failure::Error(Error::NotFound))? {
            if !self.expire(&session).await? {
                // It was paid a moment ago.
                self.expire(&made.id).await?;
                return Err(Failure::Paid);
            }
        }
        Ok(made)
    }

    /// Ends a checkout, so that it cannot be paid any more. False: it was.
    async fn expire(&self, session: &str) -> Result<bool, Failure> {
        let path = format!("/v1/checkout/sessions/{session}");
        let expire = format!("{path}/expire");
        let refused = match self.stripe.post::<Created>(&expire, &(), &new_key()).await {
            Ok(_) => None,
            Err(error @ StripeError::Refused { .. }) => Some(error),
            Err(error) => return Err(error.into()),
        };
        let state = match refused {
            None => "expired",
            Some(error) if error.is_missing() => "expired",
            Some(error) => {
                let found: SessionStatus = self.stripe.get(&path, &()).await?;
                match found.status.as_deref() {
                    Some("complete") => "complete",
                    Some("expired") => "expired",
                    _ => return Err(error.into()),
                }
            }
        };
        self.store.end_session(session, state).await?;
        Ok(state == "expired")
    }

    /// The customer with the details of now: the country and number decide the VAT.
    async fn customer(&self, org: Uuid, customer: Customer) -> Result<String, Failure> {
        let params = &customer.params;
        if let Some(id) = &customer.id {
            let path = format!("/v1/customers/{id}");
            let key = new_key();
            match self.stripe.post::<Created>(&path, params, &key).await {
                Ok(updated) => return Ok(updated.id),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let path = "/v1/customers";
        let new = new_customer(params, customer.vat_number.as_deref())?;
        let created: Created = self.stripe.post(path, &new, &new_key()).await?;
        let gone = customer.id.as_deref();
        let kept = self.store.record_customer(org, &created.id, gone).await?;
        let kept = kept.ok_or(Failure::Error(Error::NotFound))?;
        if kept != created.id {
            // Another call was first. Whether this one goes is no matter to the caller.
            let path = format!("/v1/customers/{}", created.id);
            if let Err(error) = self.stripe.delete(&path).await {
                tracing::warn!(%error, customer = created.id, "a spare customer stays at Stripe");
            }
        }
        Ok(kept)
    }

    async fn tax_rate(&self, rate: TaxRate) -> Result<String, Failure> {
        if let Some(id) = rate.id {
            return Ok(id);
        }
        let key = format!("kijko-tax-rate-{}", rate.name);
        let path = "/v1/tax_rates";
        let created: Created = self.stripe.post(path, &rate.params, &key).await?;
        let kind = "tax_rate";
        self.store
            .record_object(kind, &rate.name, &created.id)
            .await?;
        Ok(created.id)
    }

    async fn payment_methods(
        &self,
        customer: Option<&str>,
        page: &Page,
    ) -> Result<List<PaymentMethod>, Failure> {
        let Some(customer) = customer else {
            return Ok(List::default());
        };
        let path = format!("/v1/customers/{customer}/payment_methods");
        Ok(self.stripe.get(&path, page).await?)
    }

    async fn invoices(
        &self,
        customer: Option<&str>,
        page: &Page,
    ) -> Result<List<Invoice>, Failure> {
        let Some(customer) = customer else {
            return Ok(List::default());
        };
        let query = CustomerPage { customer, page };
        Ok(self.stripe.get("/v1/invoices", &query).await?)
    }
}

/// A new customer has nothing that an empty text could remove, and shows its VAT number from the first invoice on.
fn new_customer(params: &CustomerParams, vat_number: Option<&str>) -> Result<Value, Failure> {
    let mut new = answer(params)?;
    without_empty(&mut new);
    if let Some(number) = vat_number {
        new["tax_id_data"] = json!([{"type": "eu_vat", "value": number}]);
    }
    Ok(new)
}

fn without_empty(value: &mut Value) {
    if let Value::Object(members) = value {
        members.retain(|_, value| {
            without_empty(value);
            value.as_str() != Some("") && !value.as_object().is_some_and(serde_json::Map::is_empty)
        });
    }
}

impl From<Subscription> for Changed {
    fn from(changed: Subscription) -> Self {
        let payment_url = match changed.latest_invoice {
            Some(LatestInvoice::Whole {
                status: Some(status),
                hosted_invoice_url,
            }) if status == "open" => hosted_invoice_url,
            _ => None,
        };
        Self {
            id: changed.id,
            status: changed.status,
            cancel_at_period_end: changed.cancel_at_period_end,
            pending: changed.pending_update.is_some_and(|it| !it.is_null()),
            payment_url,
        }
    }
}

fn answer(value: impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| {
        Failure::Error(Error::Internal {
            cause: error.to_string(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_customer_has_no_empty_texts() {
        let params = json!({
            "name": "Café BV", "preferred_locales": ["nl"], "tax_exempt": "reverse",
            "address": {"country": "BE", "line1": "", "line2": "", "postal_code": "1000", "city": "", "state": ""},
            "invoice_settings": {"footer": ""}, "metadata": {"org_id": "x"}
        });
        let params = serde_json::from_value(params).unwrap();
        let new = new_customer(&params, Some("BE0123")).unwrap();
        assert_eq!(
            new["address"],
            json!({"country": "BE", "postal_code": "1000"})
        );
        assert!(new.get("invoice_settings").is_none());
        assert_eq!(
            new["tax_id_data"],
            json!([{"type": "eu_vat", "value": "BE0123"}])
        );
    }

    #[test]
    fn an_unpaid_change_says_where_to_pay() {
        let read =
            |value: Value| Changed::from(serde_json::from_value::<Subscription>(value).unwrap());
        let base = json!({"id": "sub_1", "status": "active", "cancel_at_period_end": false});
        assert_eq!(read(base.clone()).payment_url, None);
        let mut waiting = base.clone();
        waiting["pending_update"] = json!({"expires_at": 1});
        waiting["latest_invoice"] =
            json!({"id": "in_1", "status": "open", "hosted_invoice_url": "https://x"});
        let changed = read(waiting.clone());
        assert!(changed.pending);
        assert_eq!(changed.payment_url.as_deref(), Some("https://x"));
        waiting["latest_invoice"] = json!("in_1");
        assert_eq!(read(waiting).payment_url, None);
    }

    #[test]
    fn work_that_the_database_does_not_make_is_refused() {
        let read = |value: Value| serde_json::from_value::<Work>(value).is_ok();
        let list = json!({"limit": 20});
        assert!(read(
            json!({"operation": "invoices", "customer": null, "list": list})
        ));
        assert!(!read(
            json!({"operation": "refund", "customer": null, "list": list})
        ));
        let other = json!({"limit": 20, "ending_before": "x"});
        assert!(!read(
            json!({"operation": "invoices", "customer": null, "list": other})
        ));
    }
}
