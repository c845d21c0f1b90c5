//! Ranges of a table's rows, by where the rows lie.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::survey::Size;

/// What a row takes of a page at the least, in bytes: its header and its pointer (MaxHeapTuplesPerPage in htup_details.h).
const LEAST_ROW_BYTES: u32 = 28;
/// Rows on a page of a table of which nobody has counted any.
const UNKNOWN_ROWS_PER_PAGE: f64 = 150.0;
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

/// How heavy a table is, as last seen. Shared by the cutter and by whoever has read a range.
#[derive(Debug, Clone)]
pub(crate) struct Density(Arc<Mutex<Seen>>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    /// Bytes of text to a page.
    page_bytes: f64,
    /// And to a row.
    row_bytes: f64,
}

impl Density {
    fn new(page_bytes: f64, rows_per_page: f64) -> Self {
        Self(Arc::new(Mutex::new(Seen { page_bytes, row_bytes: page_bytes / rows_per_page })))
    }

    fn get(&self) -> Seen {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A range gave so many rows, which are so much text; `pages` if it is of whole pages. One that gave nothing tells nothing
    /// of those that hold rows.
    pub(crate) fn learn(&self, pages: Option<f64>, rows: u64, bytes: u64) {
        if rows == 0 || bytes == 0 {
            return;
        }
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Neighbours are alike; one odd range does not decide alone.
        seen.row_bytes = f64::midpoint(seen.row_bytes, bytes as f64 / rows as f64);
        if let Some(pages) = pages {
            seen.page_bytes = f64::midpoint(seen.page_bytes, bytes as f64 / pages.max(1.0));
        }
    }
}

/// Cuts one table into ranges of about so many bytes of text, one after another, from its first row to behind its last.
#[derive(Debug, Clone)]
pub(crate) struct Cutter {
    next: Option<Tid>,
    pages: u32,
    /// About.
    rows_per_page: f64,
    /// Positions of a page end here at the latest.
    most_items: u32,
    range_bytes: f64,
    density: Density,
}

impl Cutter {
    /// A cutter of a table of `size`.
    pub(crate) fn new(size: &Size, range_bytes: usize) -> Self {
        let most_items = (size.block_bytes / LEAST_ROW_BYTES).max(1);
        let rows_per_page = size.rows_per_page.unwrap_or(UNKNOWN_ROWS_PER_PAGE).clamp(1.0, f64::from(most_items));
        let density = Density::new(size.text_bytes as f64 / f64::from(size.pages.max(1)), rows_per_page);
        let range_bytes = range_bytes as f64;
        Self { next: Some(Tid::FIRST), pages: size.pages, rows_per_page, most_items, range_bytes, density }
    }

    /// Where what is read goes.
    pub(crate) fn density(&self) -> Density {
        self.density.clone()
    }

    /// How many pages a range is, if it does not begin or end inside one.
    pub(crate) fn pages_of(&self, range: &TidRange) -> Option<f64> {
        let from = range.from;
        let to = range.to.unwrap_or(Tid { page: self.pages.max(from.page.saturating_add(1)), item: 0 });
        (from.item == 0 && to.item == 0).then(|| f64::from(to.page) - f64::from(from.page))
    }

    fn end(&self, from: Tid) -> Tid {
        let next_page = Tid { page: from.page.saturating_add(1), item: 0 };
        let seen = self.density.get();
        let pages = self.range_bytes / seen.page_bytes.max(LEAST_PAGE_BYTES);
        if from.item == 0 && pages >= 1.0 {
            return Tid { page: from.page.saturating_add(pages as u32), item: 0 };
        }
        // A page whose rows are heavy: so many rows at a time. Behind twice as many as there should be little is expected, and
        // still not taken all at once, in case there is more than anybody thought.
        let mut count = (self.range_bytes / seen.row_bytes.max(1.0)).min(f64::from(self.most_items)) as u32;
        if f64::from(from.item) > 2.0 * self.rows_per_page {
            count = count.max(from.item / 4);
        }
        // The first position is 1.
        let item = from.item.max(1) + count.max(1);
        if item > self.most_items { next_page } else { Tid { page: from.page, item } }
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

    fn size(pages: u32, rows_per_page: Option<f64>, page_bytes: f64) -> Size {
        let text_bytes = (f64::from(pages) * page_bytes) as u64;
        Size { pages, rows_per_page, text_bytes, block_bytes: 8192 }
    }

    proptest! {
        #[test]
        fn ranges_tile_a_table_whatever_is_learned(
            pages in 0_u32..5000,
            rows_per_page in 0.1_f64..300.0,
            known: bool,
            page_bytes in 0.0_f64..50_000_000.0,
            range_bytes in 1000_usize..20_000_000,
            learned in prop::collection::vec((prop::option::of(0.01_f64..100.0), 0_u64..3000, 0_u64..100_000_000), 1..20),
        ) {
            let size = size(pages, known.then_some(rows_per_page), page_bytes);
            let mut cutter = Cutter::new(&size, range_bytes);
            let density = cutter.density();
            let mut learned = learned.iter().cycle();
            let mut at = Some(Tid::FIRST);
            let (mut count, all_pages) = (0_u64, u64::from(pages.max(1)));
            while let Some(range) = cutter.next() {
                prop_assert_eq!(Some(range.from), at);
                prop_assert!(range.to.is_none_or(|to| to > range.from));
                prop_assert!(cutter.pages_of(&range).is_none_or(|pages| pages > 0.0));
                at = range.to;
                let (pages, rows, bytes) = learned.next().unwrap();
                density.learn(*pages, *rows, *bytes);
                count += 1;
                prop_assert!(count <= all_pages * 293);
            }
            // The last one is open.
            prop_assert_eq!(at, None);
        }
    }

    #[test]
    fn heavy_pages_are_cut_inside_and_light_ones_taken_together() {
        let all = |pages, page_bytes| Cutter::new(&size(pages, Some(100.0), page_bytes), 1 << 20).collect::<Vec<_>>();
        assert_eq!(all(10, 8192.0), [TidRange { from: Tid::FIRST, to: None }]);
        assert_eq!(all(1000, 8192.0).len(), 8);
        let heavy = all(2, 4.0 * f64::from(1 << 20));
        assert_eq!(heavy[0], TidRange { from: Tid::FIRST, to: Some(Tid { page: 0, item: 26 }) });
        assert_eq!(heavy[1].from.to_string(), "(0,26)");
        assert!(heavy.iter().any(|range| range.from == Tid { page: 1, item: 0 }));
    }

    /// Reads a table of which each page holds `rows` rows of `row_bytes`: the most rows of a range, and how many ranges there
    /// were for a page, about.
    fn read(mut cutter: Cutter, pages: u32, rows: u32, row_bytes: u64) -> (u64, u64) {
        let density = cutter.density();
        let (mut most, mut count) = (0, 0);
        while let Some(range) = cutter.next() {
            let to = range.to.unwrap_or(Tid { page: pages, item: 0 });
            let before =
                |at: Tid| u64::from(at.page) * u64::from(rows) + u64::from(at.item.saturating_sub(1).min(rows));
            let found = before(to) - before(range.from);
            most = most.max(found);
            count += 1;
            density.learn(cutter.pages_of(&range), found, found * row_bytes);
        }
        (most, count / u64::from(pages))
    }

    #[test]
    fn heavy_pages_are_cut_by_count_although_nobody_has_analyzed_the_table() {
        for rows in [1, 3, 40, 136, 291] {
            // Ten rows to a range.
            let table = |known| Cutter::new(&size(50, known, f64::from(rows) * 200_000.0), 2_000_000);
            let exact = read(table(Some(f64::from(rows))), 50, rows, 200_000);
            assert!(exact.0 <= 10, "{rows} rows: {exact:?}");
            assert!(exact.1 <= u64::from(rows) / 10 + 40, "{rows} rows: {exact:?}");
            // Rows are taken for lighter than they are until some have come.
            let unknown = read(table(None), 50, rows, 200_000);
            assert!(unknown.0 <= 38, "{rows} rows: {unknown:?}");
            assert!(unknown.1 <= 40, "{rows} rows: {unknown:?}");
            let mistaken = read(table(Some(f64::from(rows) / 5.0)), 50, rows, 200_000);
            assert!(mistaken.0 <= 10 + u64::from(rows) / 4, "{rows} rows: {mistaken:?}");
            assert!(mistaken.1 <= 40, "{rows} rows: {mistaken:?}");
        }
    }

    #[test]
    fn an_empty_range_teaches_nothing_and_light_pages_are_soon_taken_together_again() {
        let mut cutter = Cutter::new(&size(1000, Some(100.0), 20_000_000.0), 1 << 20);
        let density = cutter.density();
        let heavy = density.get();
        density.learn(Some(10.0), 0, 0);
        density.learn(None, 0, 0);
        assert_eq!(density.get(), heavy);
        let mut count = 0;
        while let Some(range) = cutter.next() {
            let pages = cutter.pages_of(&range);
            density.learn(pages, 100, pages.map_or(5000, |pages| (pages * 8192.0) as u64));
            count += 1;
        }
        assert!(count < 60, "{count}");
    }
}
