//! `oracle`: judges a Kafka broker from outside. See `yaks::oracle`.

use std::process::ExitCode;

use clap::Parser as _;
use yaks::oracle::{Options, run};

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(run) => {
            println!("{}", run.report);
            ExitCode::from(u8::from(!run.report.is_ok()))
        }
        Err(failure) => {
            eprintln!("oracle: {failure}");
            ExitCode::from(2)
        }
    }
}
