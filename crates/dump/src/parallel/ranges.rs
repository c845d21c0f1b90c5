//! Ranges of a table's rows, by where the rows lie.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Row positions on a page end here at the latest, for pages of 32 KiB.
const MOST_ITEMS: u32 = 1200;
/// Bytes of text a page is taken to hold at the least, so that empty tables are read in few ranges.
const LEAST_PAGE_BYTES: f64 = 512.0;

/// Where a row lies: page and position, PostgreSQL's `tid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tid {
    pub(crate) page: u32,
    pub(crate) item: u32,
}

impl Tid {
    const FIRST: Self = Self { page: 0, item: 0 };
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.page, self.item)
    }
}

/// A stretch of a table: from here, up to but not including there. The last one has no end: rows may lie behind what was
/// the last page when the table was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TidRange {
    pub(crate) from: Tid,
    pub(crate) to: Option<Tid>,
}

/// Bytes of text to a page, as last seen. Shared by the cutter and by whoever has read a range.
#[derive(Debug, Clone)]
pub(crate) struct Density(Arc<Mutex<f64>>);

impl Density {
    pub(crate) fn new(page_bytes: f64) -> Self {
        Self(Arc::new(Mutex::new(page_bytes)))
    }

    fn get(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).max(LEAST_PAGE_BYTES)
    }

    /// A stretch of so many pages gave so much text.
    pub(crate) fn learn(&self, pages: f64, bytes: u64) {
        if pages > 0.0 {
            let mut density = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Neighbours are alike; one odd range does not decide alone.
            *density = f64::midpoint(*density, bytes as f64 / pages);
        }
    }
}

/// Cuts one table into ranges of about so many bytes of text, one after another, from its first row to behind its last.
#[derive(Debug, Clone)]
pub(crate) struct Cutter {
    next: Option<Tid>,
    pages: u32,
    rows_per_page: f64,
    range_bytes: f64,
    density: Density,
}

impl Cutter {
    /// A cutter of a table of `pages` pages.
    pub(crate) fn new(pages: u32, rows_per_page: f64, page_bytes: f64, range_bytes: usize) -> Self {
        Self {
            next: Some(Tid::FIRST),
            pages,
            rows_per_page: rows_per_page.clamp(1.0, f64::from(MOST_ITEMS)),
            range_bytes: range_bytes as f64,
            density: Density::new(page_bytes),
        }
    }

    /// Where what is read goes.
    pub(crate) fn density(&self) -> Density {
        self.density.clone()
    }

    /// How many pages a range is, about.
    pub(crate) fn pages_of(&self, range: &TidRange) -> f64 {
        let to = range.to.unwrap_or(Tid { page: self.pages.max(range.from.page + 1), item: 0 });
        let items = (f64::from(to.item) - f64::from(range.from.item)) / self.rows_per_page;
        (f64::from(to.page) - f64::from(range.from.page) + items).max(1.0 / self.rows_per_page)
    }

    fn end(&self, from: Tid) -> Tid {
        let next_page = Tid { page: from.page.saturating_add(1), item: 0 };
        let pages = self.range_bytes / self.density.get();
        if pages >= 1.0 {
            return match from.item {
                0 => Tid { page: from.page.saturating_add(pages as u32), item: 0 },
                // The rest of a page that was cut inside.
                _ => next_page,
            };
        }
        // A page whose rows are heavy: so many rows at a time. Behind twice as many as there should be, nothing is expected.
        let item = from.item + ((self.rows_per_page * pages).ceil() as u32).max(1);
        if f64::from(item) >= (2.0 * self.rows_per_page).min(f64::from(MOST_ITEMS)) {
            next_page
        } else {
            Tid { page: from.page, item }
        }
    }
}

impl Iterator for Cutter {
    type Item = TidRange;

    fn next(&mut self) -> Option<TidRange> {
        let from = self.next?;
        let to = Some(self.end(from)).filter(|to| to.page < self.pages);
        self.next = to;
        Some(TidRange { from, to })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_tile_a_table_whatever_is_learned(
            pages in 0_u32..5000,
            rows_per_page in 0.1_f64..300.0,
            page_bytes in 0.0_f64..50_000_000.0,
            range_bytes in 1000_usize..20_000_000,
            learned in prop::collection::vec((0.01_f64..100.0, 0_u64..100_000_000), 1..20),
        ) {
            let mut cutter = Cutter::new(pages, rows_per_page, page_bytes, range_bytes);
            let density = cutter.density();
            let mut learned = learned.iter().cycle();
            let mut at = Some(Tid::FIRST);
            let (mut count, all_pages) = (0_u64, u64::from(pages.max(1)));
            while let Some(range) = cutter.next() {
                prop_assert_eq!(Some(range.from), at);
                prop_assert!(range.to.is_none_or(|to| to > range.from));
                prop_assert!(cutter.pages_of(&range) > 0.0);
                at = range.to;
                let (pages, bytes) = learned.next().unwrap();
                density.learn(*pages, *bytes);
                count += 1;
                prop_assert!(count <= all_pages * 602);
            }
            // The last one is open.
            prop_assert_eq!(at, None);
        }
    }

    #[test]
    fn heavy_pages_are_cut_inside_and_light_ones_taken_together() {
        let all = |pages, page_bytes| Cutter::new(pages, 100.0, page_bytes, 1 << 20).collect::<Vec<_>>();
        assert_eq!(all(10, 8192.0), [TidRange { from: Tid::FIRST, to: None }]);
        assert_eq!(all(1000, 8192.0).len(), 8);
        let heavy = all(2, 4.0 * f64::from(1 << 20));
        assert_eq!(heavy[0], TidRange { from: Tid::FIRST, to: Some(Tid { page: 0, item: 25 }) });
        assert_eq!(heavy[1].from.to_string(), "(0,25)");
        assert!(heavy.iter().any(|range| range.from == Tid { page: 1, item: 0 }));
    }
}
