//! Statistics of more values than memory may hold: those of the finite ones, and the same to the
//! last bit whether they were held or not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};

use kullback::Element;
use serde::Serialize;

use crate::files::npy::Written;

/// Statistics over the finite values; `None` where there is nothing to take one of.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Statistics {
    pub mean: Option<f64>,
    pub standard_error: Option<f64>,
    pub min: Option<f64>,
    pub median: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

/// The finite ones among the values that came.
pub struct Values<V> {
    store: Store<V>,
    count: usize,
    sum: Sum,
    /// The largest, whatever its sign.
    size: f64,
}

enum Store<V> {
    Memory(Vec<V>),
    /// One after the other, in a file without a name.
    Spool(BufWriter<File>),
}

/// Values that are read back at a time.
const BLOCK: usize = 1 << 15;

/// Bits by which values are told apart in one pass.
const DIGIT: u32 = 16;

impl<V: Written + Element> Values<V> {
    /// Makes room for so many, in memory if they take no more than these bytes.
    pub fn new(most: usize, memory: usize) -> io::Result<Values<V>> {
        let mut values = Vec::new();
        let fit = most.checked_mul(size_of::<V>()).is_some_and(|bytes| bytes <= memory);
        let store = match fit && values.try_reserve_exact(most).is_ok() {
            true => Store::Memory(values),
            false => Store::Spool(BufWriter::new(tempfile::tempfile()?)),
        };
        Ok(Values { store, count: 0, sum: Sum::default(), size: 0.0 })
    }

    /// Takes values.
    pub fn extend(&mut self, values: &[V]) -> io::Result<()> {
        for &value in values {
            if value.to_f64().is_finite() {
                self.count += 1;
                self.sum.add(value.to_f64());
                self.size = self.size.max(value.to_f64().abs());
                match &mut self.store {
                    Store::Memory(values) => values.push(value),
                    Store::Spool(file) => file.write_all(bytemuck::bytes_of(&value))?,
                }
            }
        }
        Ok(())
    }

    /// The statistics of all that came.
    pub fn statistics(mut self) -> io::Result<Statistics> {
        let Some(last) = self.count.checked_sub(1) else { return Ok(Statistics::default()) };
        let count = self.count as f64;
        let mut mean = self.sum.value() / count;
        if !mean.is_finite() {
            // The sum is beyond the range, which the mean is not.
            let mut shares = Sum::default();
            self.for_each(|value| shares.add(value / count))?;
            mean = shares.value();
        }
        // Nor are squares, in units of what is squared.
        let size = self.size.max(f64::MIN_POSITIVE);
        let mut squares = Sum::default();
        self.for_each(|value| squares.add((value / size - mean / size).powi(2)))?;
        let error = (squares.value() / last as f64 / count).sqrt() * size;

        // A quantile lies at a fraction of the way, between two values if it falls there.
        let places = [0.5, 0.9, 0.99].map(|fraction| fraction * last as f64);
        let around = places.map(|place| [place.floor() as usize, place.ceil() as usize]);
        let [[min, max], median, p90, p99] = {
            let [a, b, c] = around;
            self.ranked([[0, last], a, b, c])?
        };
        let quantile =
            |[below, above]: [f64; 2], place: f64| below + (above - below) * place.fract();
        Ok(Statistics {
            mean: Some(mean),
            standard_error: (last > 0 && error.is_finite()).then_some(error),
            min: Some(min),
            median: Some(quantile(median, places[0])),
            p90: Some(quantile(p90, places[1])),
            p99: Some(quantile(p99, places[2])),
            max: Some(max),
        })
    }

    /// Goes over the values in the order in which they came.
    fn for_each(&mut self, mut take: impl FnMut(f64)) -> io::Result<()> {
        let file = match &mut self.store {
            Store::Memory(values) => {
                values.iter().for_each(|value| take(value.to_f64()));
                return Ok(());
            }
            Store::Spool(file) => file,
        };
        // Writes what is left to write, too.
        file.rewind()?;
        let mut block = vec![V::default(); BLOCK.min(self.count)];
        for first in (0..self.count).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(self.count - first)];
            file.get_mut().read_exact(bytemuck::cast_slice_mut(block))?;
            block.iter().for_each(|value| take(value.to_f64()));
        }
        Ok(())
    }

    /// The values at these places of the sorted list.
    fn ranked<const N: usize>(&mut self, places: [[usize; 2]; N]) -> io::Result<[[f64; 2]; N]> {
        if let Store::Memory(values) = &mut self.store {
            values.sort_unstable_by(|a, b| a.to_f64().total_cmp(&b.to_f64()));
            return Ok(places.map(|pair| pair.map(|place| values[place].to_f64())));
        }
        // Digit by digit: how many values begin like the one that is looked for, and go on with each
        // of the next digits, tells its next digit. A float32 has no more than three that are not 0.
        let mut sought = places.map(|pair| pair.map(|place| Sought { begin: 0, place }));
        let digits = if size_of::<V>() == 4 { 3 } else { 4 };
        for digit in 1..=digits {
            let mut counts = BTreeMap::new();
            for one in sought.as_flattened() {
                counts.insert(one.begin, vec![0; 1 << DIGIT]);
            }
            self.for_each(|value| {
                let upper = key(value) >> (u64::BITS - digit * DIGIT);
                if let Some(counts) = counts.get_mut(&(upper >> DIGIT)) {
                    counts[upper as usize % (1 << DIGIT)] += 1;
                }
            })?;
            sought.as_flattened_mut().iter_mut().for_each(|one| one.narrow(&counts[&one.begin]));
        }
        let rest = u64::BITS - digits * DIGIT;
        Ok(sought.map(|pair| pair.map(|one| value(one.begin, rest))))
    }
}

/// A value of which some digits are known.
#[derive(Clone, Copy)]
struct Sought {
    begin: u64,
    /// Its place in the sorted list of the values that begin like it.
    place: usize,
}

impl Sought {
    fn narrow(&mut self, counts: &[usize]) {
        let mut digit = 0;
        while let Some(&count) = counts.get(digit).filter(|count| self.place >= **count) {
            self.place -= count;
            digit += 1;
        }
        self.begin = self.begin << DIGIT | digit as u64;
    }
}

/// Bits that sort as the values do, −0 before 0.
fn key(value: f64) -> u64 {
    let bits = value.to_bits();
    if value.is_sign_negative() { !bits } else { bits | SIGN }
}

/// The value whose key begins so, and which has `rest` bits after that, all 0.
fn value(begin: u64, rest: u32) -> f64 {
    let is_negative = begin << rest & SIGN == 0;
    f64::from_bits(if is_negative { !begin << rest } else { begin << rest ^ SIGN })
}

const SIGN: u64 = 1 << 63;

/// A sum that does not lose what is added to it (Neumaier 1974).
#[derive(Default)]
struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        let (larger, smaller) =
            if self.sum.abs() >= value.abs() { (self.sum, value) } else { (value, self.sum) };
        self.lost += larger - sum + smaller;
        self.sum = sum;
    }

    fn value(&self) -> f64 {
        self.sum + self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics<V: Written + Element>(values: &[V], memory: usize) -> Statistics {
        let mut kept = Values::new(values.len(), memory).unwrap();
        // In parts, as they come.
        values.chunks(7_001).for_each(|part| kept.extend(part).unwrap());
        assert_eq!(matches!(kept.store, Store::Spool(_)), memory == 0 && !values.is_empty());
        kept.statistics().unwrap()
    }

    #[test]
    fn statistics_are_those_of_the_finite_values() {
        for memory in [0, 1 << 20] {
            let statistics = statistics(&[4.0, f64::INFINITY, 1.0, f64::NAN, 2.0, 3.0], memory);
            // NumPy: mean, std(ddof=1) / 2, min, quantile(.5, .9, .99), max of [1, 2, 3, 4].
            assert_eq!(statistics.mean, Some(2.5));
            assert!((statistics.standard_error.unwrap() - 0.6454972243679028).abs() < 1e-15);
            assert_eq!(statistics.median, Some(2.5));
            assert!((statistics.p90.unwrap() - 3.7).abs() < 1e-15);
            assert!((statistics.p99.unwrap() - 3.97).abs() < 1e-15);
            assert_eq!((statistics.min, statistics.max), (Some(1.0), Some(4.0)));
        }
    }

    #[test]
    fn values_at_the_ends_of_the_range_have_a_mean_and_its_error() {
        for memory in [0, 1 << 20] {
            for size in [1e-300, 1e-200, 1e160, 4e307] {
                let statistics = statistics(&[1.0, 2.0, 3.0, 4.0].map(|x| x * size), memory);
                let near = |got: Option<f64>, want: f64| (got.unwrap() / size - want).abs() < 1e-15;
                assert!(near(statistics.mean, 2.5), "{size:e}: {statistics:?}");
                let error = 0.6454972243679028;
                assert!(near(statistics.standard_error, error), "{size:e}: {statistics:?}");
            }
            assert_eq!(statistics(&[0.0; 3], memory).standard_error, Some(0.0));
        }
    }

    #[test]
    fn no_values_have_no_statistics() {
        for memory in [0, 1 << 20] {
            assert_eq!(statistics(&[f64::INFINITY], memory), Statistics::default());
            assert_eq!(statistics::<f32>(&[], memory), Statistics::default());
            let one = statistics(&[2.0_f32], memory);
            assert_eq!((one.mean, one.standard_error, one.p99), (Some(2.0), None, Some(2.0)));
        }
    }

    /// Values of many sizes and both signs, of which some occur often and some lie side by side.
    fn spread(len: u64) -> impl Iterator<Item = f64> {
        (0..len).map(|at| {
            let random = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (at << 7);
            let size = 2_f64.powi((random >> 59) as i32 - 16);
            match at % 5 {
                0 => 0.25,
                1 => -0.0,
                2 => -size * (1.0 + (random % 1000) as f64 * f64::EPSILON),
                _ => size * (random % 1_000_003) as f64,
            }
        })
    }

    /// Sorted, as a judge.
    fn assert_statistics<V: Written + Element>(values: &[V]) {
        let mut sorted: Vec<_> = values.iter().map(|value| value.to_f64()).collect();
        sorted.sort_by(f64::total_cmp);
        let quantile = |fraction: f64| {
            let place = fraction * (sorted.len() - 1) as f64;
            let [below, above] = [place.floor(), place.ceil()].map(|place| sorted[place as usize]);
            Some(below + (above - below) * place.fract())
        };
        let spooled = statistics(values, 0);
        assert_eq!(spooled, statistics(values, usize::MAX));
        assert_eq!([spooled.min, spooled.max], [quantile(0.0), quantile(1.0)]);
        assert_eq!(spooled.median, quantile(0.5));
        assert_eq!([spooled.p90, spooled.p99], [quantile(0.9), quantile(0.99)]);
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        assert!((spooled.mean.unwrap() - mean).abs() <= 1e-12 * mean.abs());
    }

    #[test]
    fn spooled_values_have_the_same_statistics() {
        for len in [1, 2, 3, 10, 101, 65_537, 200_000] {
            let values: Vec<_> = spread(len).collect();
            assert_statistics(&values);
            assert_statistics(&values.iter().map(|&value| value as f32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn keys_sort_as_the_values_do() {
        let values =
            [f64::MIN, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1.0 + f64::EPSILON, f64::MAX];
        assert!(values.windows(2).all(|pair| key(pair[0]) < key(pair[1])));
        assert!(values.iter().all(|&one| value(key(one), 0).to_bits() == one.to_bits()));
    }

    #[test]
    fn sums_keep_what_is_small() {
        let mut sum = Sum::default();
        [1e100, 1.0, -1e100].iter().for_each(|&value| sum.add(value));
        assert_eq!(sum.value(), 1.0);
    }
}
