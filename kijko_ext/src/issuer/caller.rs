//! Whom the token of an outside issuer names, until the transaction ends. `kijko.issuer_caller()` tells the domain, and
//! `kijko.assume_issuer_user()` makes the user the caller.

use pgrx::prelude::*;
use serde_json::json;

use crate::pg::composite;
use crate::pg::setting;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};
use crate::pg::xact::{PerTransaction, XactCallbacks};

sql_function!(
    kijko_issuer_caller,
    pg_finfo_kijko_issuer_caller,
    issuer_caller
);
sql_function!(
    kijko_assume_issuer_user,
    pg_finfo_kijko_assume_issuer_user,
    assume_issuer_user
);

#[derive(Clone, Debug)]
pub struct IssuerCaller {
    pub issuer: [u8; 16],
    pub organization: [u8; 16],
    pub url: String,
    pub subject: String,
    /// None before it is provisioned.
    pub user: Option<[u8; 16]>,
    pub role: &'static str,
    /// What the issuer calls the user.
    pub name: Option<String>,
    /// Whether the issuer says that the user showed one.
    pub second_factor: bool,
    /// Unix time.
    pub expires: i64,
}

/// The caller, and the subtransaction that identified it. The services try things in one and undo it: what comes after it in the
/// transaction must not be taken for a request of that caller.
struct State(Option<(IssuerCaller, pg_sys::SubTransactionId)>);

static STATE: PerTransaction<State> = PerTransaction::new(State(None));

impl XactCallbacks for State {
    fn commit(&mut self) {
        self.0 = None;
    }

    fn abort(&mut self, first: pg_sys::SubTransactionId) {
        self.0.take_if(|(_, made_in)| *made_in >= first);
    }

    fn merge_into_parent(
        &mut self,
        child: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    ) {
        if let Some((_, made_in)) = &mut self.0
            && *made_in == child
        {
            *made_in = parent;
        }
    }

    fn prepare_error(&self) -> Option<&'static str> {
        None
    }
}

pub fn set(caller: IssuerCaller) {
    // SAFETY: reads a variable of the transaction.
    let here = unsafe { pg_sys::GetCurrentSubTransactionId() };
    STATE.with_registered(|state| state.0 = Some((caller, here)));
}

pub fn is_set() -> bool {
    STATE.with(|state| state.0.is_some())
}

fn current() -> Option<IssuerCaller> {
    STATE.with(|state| state.0.as_ref().map(|(caller, _)| caller.clone()))
}

/// Null without such a token.
fn issuer_caller(arguments: Arguments) -> Answer {
    let Some(caller) = current() else {
        return Ok(arguments.null());
    };
    let columns = [
        (&caller.issuer).into(),
        (&caller.organization).into(),
        caller.subject.as_str().into(),
        caller.user.as_ref().into(),
        caller.role.into(),
        caller.name.as_deref().into(),
    ];
    // SAFETY: declared as kijko.issuer_identity, whose columns have these types.
    Ok(unsafe { composite::form(arguments.call(), &columns) })
}

/// The claims that a token of ours would have. They say `authenticated`, whatever the issuer's token says.
fn assume_issuer_user(_: Arguments) -> Answer {
    let claims = current().and_then(|caller| {
        let uuid = |id: [u8; 16]| pgrx::Uuid::from_bytes(id).to_string();
        Some(json!({
            "iss": caller.url,
            "sub": uuid(caller.user?),
            "aud": "authenticated",
            "role": "authenticated",
            "exp": caller.expires,
            "org_id": uuid(caller.organization),
            "issuer_id": uuid(caller.issuer),
            "aal": if caller.second_factor { "aal2" } else { "aal1" },
            "is_anonymous": false,
        }))
    });
    let Some(claims) = claims else {
        let details = "no user belongs to the token of an issuer";
        return Err(Refusal::new("not_identified", details, None));
    };
    setting::CLAIMS.set_local(&claims.to_string());
    Ok(pg_sys::Datum::null()) // void is not null
}
