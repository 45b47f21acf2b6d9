//! What every store must do, tried on each of them.
//!
//! A test whose machine has no PostgreSQL counts as skipped, never as passed: this binary has its own `main`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the tests talk to whoever runs them, and one that cannot go on has failed"
)]

mod contract;
mod killed;
mod many;

use std::{process::ExitCode, sync::Arc};

use lab::Postgres;
use libtest_mimic::{Arguments, Trial};
use relay::store::{Quotas, Sqlite, Store};
use tokio::runtime::Runtime;

use contract::CONTRACT;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let missing = Postgres::installed().err();
    let mut trials = Vec::new();
    for (name, check) in CONTRACT {
        trials.push(Trial::test(format!("sqlite_{name}"), move || {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("relay.db");
            Runtime::new().unwrap().block_on(check(&move |quotas: Quotas| {
                let path = path.clone();
                Box::pin(async move {
                    let store: Arc<dyn Store> = Arc::new(Sqlite::open(&path, quotas).unwrap());
                    store
                })
            }));
            Ok(())
        }));
    }
    let contract = Trial::test("postgres_keeps_the_same_contract", || {
        let postgres = Postgres::start(false);
        for (name, check) in CONTRACT {
            println!("{name}");
            postgres.create(name);
            let url = postgres.url(name);
            Runtime::new().unwrap().block_on(check(&move |quotas: Quotas| {
                let url = url.clone();
                Box::pin(async move {
                    let store = relay::store::Postgres::open(&url, quotas).await.unwrap();
                    Arc::new(store) as Arc<dyn Store>
                })
            }));
        }
        Ok(())
    });
    trials.push(contract.with_ignored_flag(missing.is_some()));
    trials.push(Trial::test("what_a_killed_relay_took_in_is_there_when_it_is_back", || {
        killed::on_sqlite();
        Ok(())
    }));
    for (name, test) in many::TESTS {
        let run = move || {
            test(&Postgres::start(false));
            Ok(())
        };
        trials.push(Trial::test(name, run).with_ignored_flag(missing.is_some()));
    }
    let tls = Trial::test("tls_to_the_database_is_what_its_address_says", || {
        many::tls_to_the_database_is_what_its_address_says();
        Ok(())
    });
    trials.push(tls.with_ignored_flag(missing.is_some()));
    // The runner hides what is said while tests are listed; this one is shown (.config/nextest.toml).
    trials.push(Trial::test("what_is_skipped_here_is_said", move || {
        match &missing {
            Some(why) => println!("SKIPPED, tests of the store in PostgreSQL: {why}"),
            None => println!("this machine can run every test of a store"),
        }
        Ok(())
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}
