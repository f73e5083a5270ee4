//! Decodes a recording and sums up its events: `cargo run --example decode -- VENUE FILE`.

use std::collections::BTreeMap;
use std::error::Error;

use coby_io::decode::{Decoder, Detail};
use coby_io::recording::Recording;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(venue), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: decode VENUE FILE".into());
    };
    let venue = coby_venues::registry::find(&venue).ok_or("unknown venue")?;
    let mut recording = Recording::open(file.as_ref())?;
    let mut decoder = Decoder::new(venue, true);
    let (mut events, mut sums) = (Vec::new(), BTreeMap::<String, u64>::new());
    while let Some(frame) = recording.next_frame()? {
        decoder.frame(&frame, &mut events)?;
        for event in events.drain(..) {
            let name = match &event.detail {
                Detail::Gap { phase, channel, cause, evidence, .. } => {
                    format!("gap {phase} {channel} {cause} {} {evidence}", event.native.unwrap_or_default())
                }
                Detail::Status { status, message } => format!("status {status} {message:.100}"),
                Detail::Book { snapshot: true, .. } => "book snapshot".into(),
                detail => detail.kind().into(),
            };
            *sums.entry(name).or_default() += 1;
        }
    }
    for (name, count) in sums {
        println!("{count:7} {name}");
    }
    println!("{:?}", decoder.feed().counts(0));
    for (key, keeper) in decoder.feed().keepers() {
        let native = decoder.feed().instruments(0).map(|instruments| instruments.get(key.id).native.clone());
        let (bids, asks) =
            (keeper.book().len(coby_core::level::Side::Bid), keeper.book().len(coby_core::level::Side::Ask));
        println!("{} {:?} {bids} bids {asks} asks", native.unwrap_or_default(), keeper.state());
    }
    Ok(())
}
