//! Parameters of Stripe's calls, as the database makes them, and what of the answers clients get. Unknown parameters are refused
//! when they are read, and `tests/journeys/billing_interface.test.mjs` compares what is sent with Stripe's published types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

type Metadata = BTreeMap<String, String>;

/// What a ticket allows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ticket {
    pub org_id: Uuid,
    pub work: Work,
}

/// One operation.
#[derive(Debug, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Work {
    Checkout(Box<Checkout>),
    Portal {
        portal: PortalSession,
    },
    Preview {
        proration_date: i64,
        invoice: InvoicePreview,
    },
    Update {
        subscription: String,
        update: SubscriptionUpdate,
    },
    PaymentMethods {
        customer: Option<String>,
        list: Page,
    },
    Invoices {
        customer: Option<String>,
        list: Page,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkout {
    pub customer: Customer,
    pub tax_rate: Option<TaxRate>,
    pub session: CheckoutSession,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Customer {
    /// None: it is still to be made.
    pub id: Option<String>,
    pub params: CustomerParams,
    /// None: the organization has none.
    pub vat_number: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CustomerParams {
    pub name: String,
    pub address: Address,
    pub preferred_locales: Vec<String>,
    pub tax_exempt: String,
    pub invoice_settings: InvoiceSettings,
    pub metadata: Metadata,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InvoiceSettings {
    /// Why no VAT is charged.
    pub footer: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Address {
    pub country: String,
    pub line1: String,
    pub line2: String,
    pub postal_code: String,
    pub city: String,
    pub state: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaxRate {
    /// Country and basis points.
    pub name: String,
    /// None: it is still to be made.
    pub id: Option<String>,
    pub params: TaxRateParams,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaxRateParams {
    pub display_name: String,
    pub percentage: String,
    pub inclusive: bool,
    pub country: String,
    pub tax_type: String,
    pub metadata: Metadata,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckoutSession {
    pub mode: String,
    #[serde(default)]
    pub customer: Option<String>,
    pub client_reference_id: Uuid,
    pub line_items: Vec<LineItem>,
    pub allowed_payment_method_types: Vec<String>,
    pub allow_promotion_codes: bool,
    pub automatic_tax: AutomaticTax,
    pub success_url: String,
    pub cancel_url: String,
    pub subscription_data: SubscriptionData,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AutomaticTax {
    pub enabled: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LineItem {
    pub price: String,
    /// None for a metered price.
    pub quantity: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscriptionData {
    pub metadata: Metadata,
    #[serde(default)]
    pub trial_period_days: Option<u32>,
    /// Of all items: rates of a single item would stay when the VAT of the customer changes.
    #[serde(default)]
    pub default_tax_rates: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortalSession {
    pub customer: String,
    pub return_url: String,
    pub configuration: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemChange {
    pub id: Option<String>,
    pub price: Option<String>,
    pub quantity: Option<u64>,
    pub deleted: Option<bool>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InvoicePreview {
    pub customer: String,
    pub subscription: String,
    pub subscription_details: SubscriptionDetails,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscriptionDetails {
    pub items: Vec<ItemChange>,
    pub proration_behavior: String,
    pub proration_date: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscriptionUpdate {
    #[serde(default)]
    pub items: Vec<ItemChange>,
    pub proration_behavior: Option<String>,
    pub proration_date: Option<i64>,
    pub payment_behavior: Option<String>,
    pub cancel_at_period_end: Option<bool>,
    pub cancellation_details: Option<CancellationDetails>,
    #[serde(default)]
    pub expand: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CancellationDetails {
    pub feedback: Option<String>,
    pub comment: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    pub limit: u32,
    pub starting_after: Option<String>,
}

/// A page of one customer's objects.
#[derive(Debug, Serialize)]
pub(super) struct CustomerPage<'a> {
    pub customer: &'a str,
    #[serde(flatten)]
    pub page: &'a Page,
}

// ---- answers

/// Only its id matters.
#[derive(Debug, Deserialize)]
pub(super) struct Created {
    pub id: String,
}

/// A checkout that was made before.
#[derive(Debug, Deserialize)]
pub(super) struct SessionStatus {
    pub status: Option<String>,
}

/// Where the browser goes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Redirect {
    pub id: String,
    pub url: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct List<T> {
    pub data: Vec<T>,
    pub has_more: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self {
            data: Vec::new(),
            has_more: false,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Invoice {
    pub id: Option<String>,
    pub number: Option<String>,
    pub status: Option<String>,
    pub currency: String,
    pub subtotal: i64,
    pub total: i64,
    pub amount_due: i64,
    pub amount_paid: i64,
    pub amount_remaining: i64,
    pub created: i64,
    pub period_start: i64,
    pub period_end: i64,
    pub due_date: Option<i64>,
    pub hosted_invoice_url: Option<String>,
    pub invoice_pdf: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PreviewInvoice {
    pub currency: String,
    pub subtotal: i64,
    pub total: i64,
    pub amount_due: i64,
    pub lines: List<Line>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub description: Option<String>,
    pub amount: i64,
    pub quantity: Option<i64>,
    pub period: Period,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Period {
    pub start: i64,
    pub end: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct Preview {
    /// To be given to billing-change, so that the same amount is charged.
    pub proration_date: i64,
    pub currency: String,
    pub subtotal: i64,
    pub total: i64,
    pub amount_due: i64,
    pub lines: Vec<Line>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Subscription {
    pub id: String,
    pub status: String,
    pub cancel_at_period_end: bool,
    #[serde(default)]
    pub pending_update: Option<serde_json::Value>,
    #[serde(default)]
    pub latest_invoice: Option<LatestInvoice>,
}

/// An id, unless it was expanded.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum LatestInvoice {
    Whole {
        status: Option<String>,
        hosted_invoice_url: Option<String>,
    },
    Id(#[allow(dead_code, reason = "its shape is what counts")] String),
}

#[derive(Debug, Serialize)]
pub(super) struct Changed {
    pub id: String,
    pub status: String,
    pub cancel_at_period_end: bool,
    /// The change waits for a payment.
    pub pending: bool,
    /// Where the open invoice is paid.
    pub payment_url: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PaymentMethod {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub created: i64,
    #[serde(default)]
    pub card: Option<Card>,
    #[serde(default)]
    pub sepa_debit: Option<SepaDebit>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Card {
    pub brand: Option<String>,
    pub last4: Option<String>,
    pub exp_month: i64,
    pub exp_year: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SepaDebit {
    pub last4: Option<String>,
    pub country: Option<String>,
}
