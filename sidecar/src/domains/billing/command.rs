//! `kijko-sidecar billing sync [--dry-run]` and `billing reconcile`, which `./kijko billing` runs.

use std::process::ExitCode;

use kijko_core::{Settings, config::Reader, db::Db};

use super::{
    client::Stripe, config::Account, fault::CommandError, reconcile::reconcile, store::Store,
    sync::Sync,
};
use crate::{app, service::SERVICE};

/// The first argument.
pub const ARGUMENT: &str = "billing";

enum Command {
    Sync { dry_run: bool },
    Reconcile,
}

/// Exits 0 when all is well, 1 when something failed or differs, 2 for arguments or settings that cannot be used.
pub fn main(arguments: &[&str]) -> ExitCode {
    let command = match *arguments {
        ["sync"] => Command::Sync { dry_run: false },
        ["sync", "--dry-run"] => Command::Sync { dry_run: true },
        ["reconcile"] => Command::Reconcile,
        _ => {
            eprintln!(
                "{} billing takes: sync [--dry-run], reconcile",
                SERVICE.name
            );
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&command)),
        Err(error) => Err(CommandError::Start(error.to_string())),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            match error {
                CommandError::Settings(_) | CommandError::NoAccount => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(command: &Command) -> Result<ExitCode, CommandError> {
    let settings = app::settings()?;
    let (account, db) = connect(&settings)?;
    let store = Store::new(db, &account);
    let stripe = Stripe::new(&account).map_err(|error| CommandError::Start(error.to_string()))?;
    let mode = match account.livemode {
        true => "live mode",
        false => "test mode",
    };
    match command {
        Command::Sync { dry_run } => {
            if !dry_run {
                store.register(&account).await?;
            }
            let sync = Sync {
                stripe: &stripe,
                store: &store,
                dry_run: *dry_run,
            };
            let made = sync.run().await?;
            match dry_run {
                true => println!("{made} to make in {mode}"),
                false => println!("{made} made in {mode}"),
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Reconcile => match reconcile(&stripe, &store).await? {
            0 => {
                println!("no differences in {mode}");
                Ok(ExitCode::SUCCESS)
            }
            found => {
                println!("{found} differences in {mode}");
                Ok(ExitCode::FAILURE)
            }
        },
    }
}

fn connect(settings: &Settings) -> Result<(Account, Db), CommandError> {
    let lookup = |name: &str| std::env::var(name).ok();
    let mut env = Reader::new(SERVICE, &lookup);
    let account = Account::read(&mut env);
    let account = env.finish(Some(account))?.ok_or(CommandError::NoAccount)?;
    let db = Db::new(&settings.database)?;
    Ok((account, db))
}
