//! A service that reads CSV files row by row as they arrive, without landing them: a file of any size takes a few chunks
//! of memory. It adds up the column `amount` of every file on the channels `invoices.>`.
//!
//! ```sh
//! NATS_URL=nats://127.0.0.1:4222 cargo run -p natsfer-consumer --example csv_service
//! printf 'customer,amount\n"Smith, Ann",3.50\nBob,4\n' | natsfer-producer send -c invoices.eu --name today.csv -
//! ```
//!
//! Each chunk is verified before its rows are seen, and the whole file's digest at its end. What a service does with the
//! rows before that must therefore be something it can take back, as the sum here, or a database's transaction.
#![expect(clippy::print_stdout, reason = "that is what it shows")]

use csv_async::{AsyncReader, StringRecord};
use natsfer_consumer::{ConnectOptions, Receiver, ReceiverOptions, TransferReader};

/// What came of a file that was read to its end.
enum Outcome {
    Summed { rows: u64, amount: f64 },
    Malformed(csv_async::Error),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".into());
    let server = ConnectOptions::default().with_server(url);
    let options = ReceiverOptions::new("csv-service".parse()?).with_channels("invoices.>".parse()?);

    let mut receiver = Receiver::connect(&server, options).await?;
    while let Some(incoming) = receiver.next().await? {
        let name = incoming.manifest().name.clone();
        if !name.as_str().ends_with(".csv") {
            incoming.reject("it is not a CSV file").await;
            continue;
        }
        let mut reader = incoming.read().await?;
        match sum(&mut reader).await {
            Ok(Outcome::Summed { rows, amount }) => println!("{name}: {rows} rows, {amount:.2} in all"),
            // It would be as malformed the next time: it is done, too.
            Ok(Outcome::Malformed(error)) => println!("{name}: {error}"),
            // Not verified to its end: finishing puts it back to come again, or gives it up where that cannot help.
            Err(error) => println!("{name}: {error}"),
        }
        // Only now is the file off this receiver's list: had the service died before, it would come again.
        reader.finish().await;
    }
    Ok(())
}

/// Reads one file to its end, whatever is in it: only then is it known to be what was sent.
async fn sum(reader: &mut TransferReader) -> std::io::Result<Outcome> {
    let malformed = match sum_rows(reader).await {
        Ok(outcome) => return Ok(outcome),
        Err(error) if error.is_io_error() => return Err(error.into()),
        Err(error) => error,
    };
    tokio::io::copy(reader, &mut tokio::io::sink()).await?;
    Ok(Outcome::Malformed(malformed))
}

async fn sum_rows(reader: &mut TransferReader) -> csv_async::Result<Outcome> {
    let mut rows = AsyncReader::from_reader(reader);
    let column = rows.headers().await?.iter().position(|name| name == "amount");
    let (mut row, mut count, mut amount) = (StringRecord::new(), 0, 0.0);
    while rows.read_record(&mut row).await? {
        count += 1;
        amount += column.and_then(|column| row.get(column)?.trim().parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok(Outcome::Summed { rows: count, amount })
}
