//! `bench`: measures a Kafka broker from outside. See `yaks::bench`.

use std::process::ExitCode;

use clap::Parser as _;
use yaks::bench::{Options, run};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options).await {
        Ok(report) if options.json => println!("{:#}", report.to_json()),
        Ok(report) => println!("{report}"),
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
