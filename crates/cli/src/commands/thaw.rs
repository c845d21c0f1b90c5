//! A backup in an archive tier: how long it takes to be readable, what that costs, and waiting for it.

use std::time::Duration;

use pgkeep_core::{BackupSource, Keeper, ThawOptions};
use pgkeep_storage::{Readiness, ThawTier};

use super::Context;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::render::{elapsed, size};

/// How often a wait of hours is told of.
const TOLD_EVERY: Duration = Duration::from_mins(15);
/// USD for a GB and month in the tier where a thawed copy lies meanwhile.
const COPY_PRICE: f64 = 0.023;

/// Amazon's list prices and times in us-east-1, by storage class and tier: words for how long, USD for a GB.
const PRICES: [(&str, ThawTier, &str, f64); 5] = [
    ("GLACIER", ThawTier::Expedited, "1 to 5 minutes", 0.03),
    ("GLACIER", ThawTier::Standard, "3 to 5 hours", 0.01),
    ("GLACIER", ThawTier::Bulk, "5 to 12 hours", 0.0),
    ("DEEP_ARCHIVE", ThawTier::Standard, "up to 12 hours", 0.02),
    ("DEEP_ARCHIVE", ThawTier::Bulk, "up to 48 hours", 0.0025),
];

/// The archive can be read when this returns: at once, or, if that was asked for, after the wait for its archive tier.
pub(super) async fn ensure_readable(
    context: &Context,
    keeper: &Keeper,
    source: &BackupSource,
    tier: Option<ThawTier>,
) -> Result<()> {
    let readiness = source.storage.readiness(&source.key).await?;
    let bytes = match &source.meta {
        Some(meta) => meta.stored.bytes,
        None => source.storage.head(&source.key).await?.bytes,
    };
    let name = source.name();
    let class = match (&readiness, tier) {
        (Readiness::Ready, _) => return Ok(()),
        (Readiness::Archived(class), None) => {
            let message = format!("{name} lies in {class} at {} and can't be read before it is thawed", source.place);
            return Err(Failure::new(Code::Archived, message).hint(offers(class, bytes)));
        }
        (Readiness::Thawing(_), None) => {
            let message = format!("{name} is being thawed at {} and can't be read yet", source.place);
            return Err(Failure::new(Code::Archived, message).hint("pass --thaw to wait for it, or come back later"));
        }
        (Readiness::Archived(class) | Readiness::Thawing(class), Some(_)) => class,
    };
    let tier = tier.unwrap_or_default();
    let options = ThawOptions::new(tier);
    if class == "DEEP_ARCHIVE" && tier == ThawTier::Expedited {
        let message = format!("{name} lies in {class}, out of which nothing comes expedited");
        return Err(Failure::new(Code::Usage, message).hint(offers(class, bytes)));
    }
    let reporter = &context.reporter;
    if matches!(readiness, Readiness::Thawing(_)) {
        reporter.info(format!("{name} is being thawed already; waiting for it"));
    } else {
        reporter.info(format!("Thawing {name} ({}): {}", size(bytes), offer(class, tier, bytes)));
    }
    reporter.info("Interrupted, this goes on at the store; the same command waits for it again");
    let mut told = Duration::ZERO;
    let waiting = |waited: Duration| {
        let line = format!("Still being thawed after {}", elapsed(waited));
        if waited >= told + TOLD_EVERY {
            told = waited;
            reporter.info(line);
        } else {
            reporter.detail(line);
        }
    };
    keeper.thaw(source, &options, waiting).await?;
    reporter.info(format!("{name} can be read now, for {} days", options.days));
    Ok(())
}

/// Everything `--thaw` could do, with times and prices.
fn offers(class: &str, bytes: u64) -> String {
    let offers: Vec<String> = PRICES
        .iter()
        .filter(|(known, ..)| *known == class)
        .map(|&(_, tier, ..)| format!("--thaw {}: {}", tier.word(), offer(class, tier, bytes)))
        .collect();
    if offers.is_empty() {
        return "pass --thaw to ask for it and wait; or take a newer backup: `pgkeep list`".to_owned();
    }
    format!("pass {}; or take a newer backup: `pgkeep list`", offers.join(", or "))
}

/// How long, and about how much.
fn offer(class: &str, tier: ThawTier, bytes: u64) -> String {
    let known = PRICES.iter().find(|(known, of, ..)| (*known, *of) == (class, tier));
    let Some((_, _, time, price)) = known else { return "it takes a while".to_owned() };
    let gb = bytes as f64 / 1e9;
    let copy = gb * COPY_PRICE * f64::from(ThawOptions::new(tier).days) / 30.0;
    format!("{time}, about ${:.2} by Amazon's list prices, without traffic", gb * price + copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_grow_with_size_and_haste() {
        let hundred = 100_000_000_000;
        assert_eq!(
            offer("GLACIER", ThawTier::Standard, hundred),
            "3 to 5 hours, about $1.23 by Amazon's list prices, without traffic"
        );
        assert!(offer("DEEP_ARCHIVE", ThawTier::Bulk, hundred).starts_with("up to 48 hours, about $0.48"));
        let offers = offers("DEEP_ARCHIVE", 1);
        assert!(offers.contains("--thaw bulk") && !offers.contains("expedited"), "{offers}");
        assert!(super::offers("ARCHIVE_ACCESS", 1).contains("--thaw"));
    }
}
