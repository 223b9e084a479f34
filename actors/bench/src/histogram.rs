//! Durations counted by size: constant memory for any number of them, each known within 2 %.

/// Counts of one power of two, so the width of a bucket is a 64th of its value or less.
const PER_DOUBLING: u64 = 64;
/// Up to 2^42 ns, more than an hour; what is longer counts as that.
const DOUBLINGS: usize = 42;
const BUCKETS: usize = PER_DOUBLING as usize * (DOUBLINGS - 5);

/// Durations in nanoseconds.
pub struct Histogram {
    counts: Vec<u32>,
    count: u64,
    max: u64,
}

impl Histogram {
    /// None yet.
    pub fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            count: 0,
            max: 0,
        }
    }

    /// One more.
    pub fn add(&mut self, ns: u64) {
        if let Some(count) = self.counts.get_mut(bucket(ns).min(BUCKETS - 1)) {
            *count = count.saturating_add(1);
        }
        self.count += 1;
        self.max = self.max.max(ns);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// What so many in a thousand do not exceed, rounded up to the bucket's end; 0 for none.
    pub fn per_mille(&self, part: u64) -> u64 {
        let wanted = (self.count * part).div_ceil(1000);
        let mut seen = 0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= wanted && seen > 0 {
                return end_of(bucket).min(self.max);
            }
        }
        self.max
    }
}

/// The first 64 buckets hold one value each; after them, each doubling has 64.
fn bucket(ns: u64) -> usize {
    if ns < PER_DOUBLING {
        return ns as usize;
    }
    let shift = ns.ilog2() - PER_DOUBLING.ilog2();
    (u64::from(shift) * PER_DOUBLING + (ns >> shift)) as usize
}

/// The largest value of a bucket.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PER_DOUBLING {
        return bucket;
    }
    let shift = bucket / PER_DOUBLING - 1;
    ((bucket - shift * PER_DOUBLING + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_a_bucket_that_ends_at_most_two_percent_above() {
        let mut value = 1;
        while value < 1 << (DOUBLINGS - 1) {
            for value in [value - 1, value, value + 1] {
                let end = end_of(bucket(value));
                assert!(end >= value && end - value <= value / 50, "{value}: {end}");
                assert!(bucket(end + 1) == bucket(value) + 1, "{value}: {end}");
            }
            value += value / 7 + 1;
        }
        assert!(bucket((1 << DOUBLINGS) - 1) < BUCKETS);
    }

    #[test]
    fn quantiles_of_a_thousand() {
        let mut all = Histogram::new();
        assert_eq!((all.per_mille(500), all.max()), (0, 0));
        for us in 1..=1000 {
            all.add(us * 1000);
        }
        let close = |part, ns: u64| all.per_mille(part).abs_diff(ns) <= ns / 50;
        assert!(close(500, 500_000) && close(990, 990_000) && close(999, 999_000));
        assert_eq!((all.per_mille(1000), all.count()), (1_000_000, 1000));
    }

    #[test]
    fn what_is_too_long_counts_as_longest() {
        let mut all = Histogram::new();
        all.add(u64::MAX);
        assert_eq!((all.count(), all.max()), (1, u64::MAX));
        assert!(all.per_mille(990) > 1 << (DOUBLINGS - 1));
    }
}
