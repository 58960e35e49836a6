//! All rows against all rows on the GPU. Shader: `shaders/matrix.wgsl`, with the form of a sum.
//!
//! The host makes rows ready as it does for its own tiles, in f64 and for any kind and type of input, and
//! settles what the device sums of each pair. A submission has so many rows of both sides that it ends
//! within tens of milliseconds; where even four rows are too long for one, it has some of their bins.

use std::collections::VecDeque;
use std::mem::{offset_of, size_of};
use std::ops::Range;

use rayon::prelude::*;

use super::call::Call;
use super::device::{Device, PairsJob};
use super::fault::Fault;
use super::kernel::Spec;
use super::record::{self, Records};
use super::rows::IN_FLIGHT;
use super::slot::Slot;
use super::variant::Variant;
use super::worker::catch;
use super::{Gpu, Lent};
use crate::batch::OnInvalid;
use crate::cpu::pairing::{Found, Of, Row, SIDE_BYTES, is_apart, mirror};
use crate::cpu::tile::{Known, Lanes, Sum};
use crate::element::Element;
use crate::error::Side;
use crate::pairs::blocks;
use crate::plan::{Dispatch, Form, Limits};
use crate::{Error, Matrix};

/// What the shader declares.
pub fn spec(sum: Sum) -> Spec {
    let variant = Variant::for_sum(sum);
    Spec {
        name: "matrix",
        variant,
        heads: None,
        lines: None,
        source: [
            variant.record_source(),
            variant.segment_source(),
            include_str!("../../shaders/matrix.wgsl"),
        ]
        .concat(),
        buffers: vec![("p", 1, false), ("q", 2, false), ("made", 3, true)],
        params: (size_of::<Params>(), FIELDS),
        policy: None,
        own: Vec::new(),
    }
}

const FIELDS: &[(&str, usize)] = &[
    ("p_tiles", offset_of!(Params, p_tiles)),
    ("q_tiles", offset_of!(Params, q_tiles)),
    ("across", offset_of!(Params, across)),
    ("line", offset_of!(Params, line)),
    ("segments", offset_of!(Params, segments)),
    ("segment_bins", offset_of!(Params, segment_bins)),
    ("bins", offset_of!(Params, bins)),
    ("ticket", offset_of!(Params, ticket)),
    ("zero", offset_of!(Params, zero)),
];

#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    p_tiles: u32,
    q_tiles: u32,
    across: u32,
    line: u32,
    segments: u32,
    segment_bins: u32,
    bins: u32,
    ticket: u32,
    zero: u32,
}

impl Params {
    pub(crate) fn with_ticket(self, ticket: u32) -> Params {
        Params { ticket, ..self }
    }
}

/// Rows of each side that an invocation takes.
const TILE: usize = 4;
/// Bins of which an invocation takes the terms: few enough for sums in f32, and for lavapipe's loops. The
/// host adds what it leaves, in f64.
const SEGMENT: usize = 1024;
/// Pairs of bins to a byte that a chunk may take: some 20 operations each.
const WORK_PER_BYTE: usize = 4;
/// Columns that are settled at a time.
const ACROSS: usize = 256;

/// What a submission takes at most. That its bins do not depend on the rows keeps the bits of a pair the
/// same in whatever matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    /// Of P and Q.
    rows: [usize; 2],
    bins: usize,
}

impl Cut {
    fn new([m, n]: [usize; 2], bins: usize, known: &Known, limits: Limits) -> Cut {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let chunk = bytes(limits.chunk_bytes.min(limits.binding_bytes));
        let bin_bytes = TILE * known.fields * size_of::<f32>();
        let bins = match (chunk / bin_bytes).max(1) {
            most if most >= bins => bins.max(1),
            most if most > SEGMENT => most / SEGMENT * SEGMENT,
            most => most,
        };
        let segments = bins.div_ceil(SEGMENT);
        let record_bytes = Variant::for_sum(known.sum).layout().record_bytes;
        let workgroups = (limits.grid as usize).saturating_mul(limits.grid as usize);
        let tiles = (chunk.saturating_mul(WORK_PER_BYTE) / (TILE * TILE * bins))
            .min(chunk / (record_bytes * segments))
            .min(workgroups / segments)
            .max(1);
        // Square where both sides are large, so that what is written of rows serves many pairs.
        let most = (chunk / (bin_bytes * bins)).max(1);
        let [m, n] = [m, n].map(|rows| rows.div_ceil(TILE).clamp(1, most));
        let p_tiles = m.min(tiles.isqrt().max(tiles / n));
        let q_tiles = n.min(tiles / p_tiles);
        Cut { rows: [p_tiles * TILE, q_tiles * TILE], bins }
    }
}

/// Why a matrix is left to the host.
pub(crate) fn no_form<T: Element>(of: Of<'_, '_, T>) -> Error {
    let (divergence, mass) = (of.divergence, of.pairs.mass());
    let what = format!("a matrix of {divergence} in {}, mass policy {mass}", T::NAME);
    Error::Unsupported { backend: "gpu", what }
}

/// What is kept of a row that is ready.
type Ready = Row<Vec<Lanes>>;

/// Some rows of P against some of Q, all ready.
struct Band<'a, 'b, T> {
    of: Of<'a, 'b, T>,
    known: Known,
    cut: Cut,
    rows: [Range<usize>; 2],
    sides: [&'a [Ready]; 2],
}

/// What one submission works on.
#[derive(Clone, Debug, PartialEq)]
struct Chunk {
    /// Rows of Q, counted in the matrix.
    columns: Range<usize>,
    bins: Range<usize>,
}

impl Gpu {
    /// Computes the rows of a matrix that a call still lacks, of which each is whole or not begun.
    pub(crate) async fn finish_pairs<T: Element>(
        &self,
        of: Of<'_, '_, T>,
        matrix: &mut Matrix<T::Value>,
        call: &mut Call<T::Value>,
    ) -> Result<(), Error> {
        let Some(known) = of.fast().map(Sum::known) else {
            return Err(no_form(of));
        };
        let ((m, n), bins) = (of.pairs.shape(), of.pairs.bins());
        let cut = Cut::new([m, n], bins, &known, self.limits());
        let block = SIDE_BYTES / (bins * known.fields * size_of::<f32>()).max(1);
        let block = block.max(1).next_multiple_of(cut.rows[1]);
        matrix.adapter = Some(self.adapter().name().to_owned());
        let (mut q, mut q_ready) = (Vec::new(), 0..0);
        for p_rows in blocks(call.done..m, cut.rows[0]) {
            let p = of.ready(Side::P, p_rows.clone(), known.keep);
            matrix.note(Side::P, p_rows.start, p.iter().map(|row| row.refused));
            let mut found = Found::default();
            for q_rows in blocks(0..n, block) {
                if q_ready != q_rows {
                    q = of.ready(Side::Q, q_rows.clone(), known.keep);
                    matrix.note(Side::Q, q_rows.start, q.iter().map(|row| row.refused));
                    q_ready = q_rows.clone();
                }
                call.progressed();
                // The rest would be thrown away. Other rows of P may come before.
                if of.pairs.on_invalid() == OnInvalid::Nan || matrix.offender.is_none() {
                    let (rows, sides) = ([p_rows.clone(), q_rows], [&p[..], &q[..]]);
                    let band = Band { of, known, cut, rows, sides };
                    found = found.and(self.compute(&band, matrix, call).await?);
                }
            }
            of.note(found, matrix);
            call.done = p_rows.end;
        }
        if of.is_mirrored() {
            mirror(matrix);
        }
        Ok(())
    }

    /// Computes the pairs of a band.
    async fn compute<T: Element>(
        &self,
        band: &Band<'_, '_, T>,
        matrix: &mut Matrix<T::Value>,
        call: &mut Call<T::Value>,
    ) -> Result<Found, Error> {
        let (mut running, mut idle) = (VecDeque::new(), Vec::new());
        let mut chunks = band.chunks().peekable();
        let (mut sums, mut found) = (Vec::new(), Found::default());
        // The first chunk is the largest, and a slot is for any of them.
        let most = chunks.peek().map_or([0; 2], |chunk| band.job(chunk, self.limits()).bytes);
        loop {
            while running.len() < IN_FLIGHT
                && let Some(chunk) = chunks.peek()
            {
                let job = band.job(chunk, self.limits());
                let lent = match idle.pop() {
                    Some(lent) => Some(lent),
                    None => self.lend(call, most, !running.is_empty()).await?,
                };
                let Some(mut lent) = lent else { break };
                // Only now: a chunk that is taken is a chunk that is computed.
                let Some(chunk) = chunks.next() else { break };
                band.pack(&chunk, job.bytes, lent.slot()?).map_err(|e| self.fault(e))?;
                let submit =
                    move |device: &mut Device, slot| Ok(((), device.sum_pairs(slot, &job)?));
                lent.run(call.until, submit).await?;
                running.push_back((chunk, lent));
            }
            let Some((chunk, mut lent)) = running.pop_front() else { break };
            let records = self.collected(&mut lent, call).await?;
            idle.push(lent);
            band.add(&chunk, &records, &mut sums).map_err(|e| self.fault(Fault::wrong(e)))?;
            if chunk.bins.end == band.bins() {
                found = found.and(band.settle(&chunk, &std::mem::take(&mut sums), matrix));
            }
            call.progressed();
        }
        Ok(found)
    }

    async fn collected<V>(
        &self,
        lent: &mut Lent<'_>,
        call: &Call<V>,
    ) -> Result<Vec<Records>, Error> {
        let until = call.until;
        let collect =
            move |device: &mut Device, mut slot| Ok((device.collect(&mut slot, until)?, slot));
        lent.run(until, collect).await
    }
}

impl<T: Element> Band<'_, '_, T> {
    fn bins(&self) -> usize {
        self.of.pairs.bins()
    }

    /// The chunks, those of the same pairs one after the other.
    fn chunks(&self) -> impl Iterator<Item = Chunk> + use<T> {
        let ([p, q], bins, cut) = (self.rows.clone(), self.bins(), self.cut);
        let first = if self.of.is_mirrored() { p.start } else { 0 };
        let columns = blocks(q, cut.rows[1]).filter(move |columns| columns.end > first);
        columns.flat_map(move |columns| {
            blocks(0..bins, cut.bins).map(move |bins| Chunk { columns: columns.clone(), bins })
        })
    }

    /// The rows of both sides that a chunk is about.
    fn sides(&self, chunk: &Chunk) -> [&[Ready]; 2] {
        let first = self.rows[1].start;
        let [p, q] = self.sides;
        [p, &q[chunk.columns.start - first..chunk.columns.end - first]]
    }

    /// Tiles of P and of Q.
    fn tiles(&self, chunk: &Chunk) -> [usize; 2] {
        self.sides(chunk).map(|rows| rows.len().div_ceil(TILE))
    }

    /// What is summed: of some divergences the overlap too, which has the digits of rows far apart.
    fn sums(&self) -> Vec<Sum> {
        let overlap = self.of.divergence.integrands()[1].map(|_| Sum::Overlap);
        [Some(self.known.sum), overlap].into_iter().flatten().collect()
    }

    fn job(&self, chunk: &Chunk, limits: Limits) -> PairsJob {
        let tiles = self.tiles(chunk);
        let [p_tiles, q_tiles] = tiles;
        let (bins, size) = (chunk.bins.len(), limits.workgroup_size);
        let across = 1 << (size.ilog2() / 2);
        let squares =
            p_tiles.div_ceil((size / across) as usize) * q_tiles.div_ceil(across as usize);
        let segments = bins.div_ceil(SEGMENT);
        let groups = squares * segments;
        let line = groups.min(limits.grid as usize);
        let bin_bytes = TILE * self.known.fields * size_of::<f32>();
        PairsJob {
            sums: self.sums(),
            bytes: tiles.map(|tiles| tiles * bins * bin_bytes),
            params: Params {
                p_tiles: p_tiles as u32,
                q_tiles: q_tiles as u32,
                across,
                line: line as u32,
                segments: segments as u32,
                segment_bins: SEGMENT as u32,
                bins: bins as u32,
                ticket: 0,
                zero: 0,
            },
            dispatch: Dispatch {
                units: (segments * p_tiles * q_tiles) as u32,
                lanes: 1,
                grid: [line as u32, groups.div_ceil(line) as u32],
                form: Form::ALONE,
            },
        }
    }

    /// Writes what is kept of a chunk's rows where the shader reads it.
    fn pack(&self, chunk: &Chunk, bytes: [usize; 2], slot: &Slot) -> Result<(), Fault> {
        let sides = self.sides(chunk).into_iter().zip(&slot.inputs).zip(bytes);
        sides.into_iter().try_for_each(|((rows, input), bytes)| {
            let packed = packed(rows, self.known.fields, chunk.bins.clone());
            catch(|| {
                input.view(bytes)?.slice(..).copy_from_slice(bytemuck::cast_slice(&packed));
                Ok(())
            })
        })
    }

    /// Adds what a chunk came to, sum by sum: to rows of P against columns, filled up to whole tiles.
    fn add(
        &self,
        chunk: &Chunk,
        records: &[Records],
        sums: &mut Vec<Vec<f64>>,
    ) -> Result<(), String> {
        let [p_tiles, q_tiles] = self.tiles(chunk);
        let (tiles, bins) = (p_tiles * q_tiles, chunk.bins.len());
        sums.resize(records.len(), vec![0.0; tiles * TILE * TILE]);
        for (records, sums) in records.iter().zip(sums) {
            records.verify(|at| SEGMENT.min(bins - at / tiles * SEGMENT))?;
            let records: Vec<&[u32]> = records.each().collect();
            if records.len() != bins.div_ceil(SEGMENT) * tiles {
                return Err(format!("{} records came for {tiles} tiles", records.len()));
            }
            let rows = sums.par_chunks_mut(q_tiles * TILE * TILE).enumerate();
            rows.for_each(|(p_tile, sums)| {
                for segment in records.chunks(tiles) {
                    let records = segment[p_tile * q_tiles..].iter().take(q_tiles);
                    for (q_tile, words) in records.enumerate() {
                        let rows = sums.chunks_mut(q_tiles * TILE);
                        for (row, of_tile) in rows.zip(record::pairs(words)) {
                            let row = &mut row[q_tile * TILE..][..TILE];
                            row.iter_mut().zip(of_tile).for_each(|(sum, x)| *sum += f64::from(x));
                        }
                    }
                }
            });
        }
        Ok(())
    }

    /// Writes the values of the pairs of a chunk, from their sums over all bins.
    fn settle(&self, chunk: &Chunk, sums: &[Vec<f64>], matrix: &mut Matrix<T::Value>) -> Found {
        let (of, known) = (self.of, self.known);
        let wide = self.tiles(chunk)[1] * TILE;
        let rows = [self.rows[0].clone(), chunk.columns.clone()];
        of.settle(matrix, rows, self.sides(chunk), ACROSS, |[p, q]| {
            let places = p.flat_map(|row| q.clone().map(move |column| row * wide + column));
            let value = |at: usize| {
                let sum = sums[0][at];
                let overlap = sums.get(1).filter(|_| is_apart(sum * known.factor));
                let ln_overlap = overlap.map_or(0.0, |overlaps| overlaps[at].ln());
                of.value([known.least, known.factor], sum, ln_overlap)
            };
            places.map(value).collect()
        })
    }
}

/// What is kept of some bins of rows, bin by bin and field by field, of all rows side by side: filled up
/// with zeros to whole tiles.
fn packed(rows: &[Ready], fields: usize, bins: Range<usize>) -> Vec<f32> {
    /// As many lie side by side in what is kept.
    const BINS: usize = 16;
    let stride = rows.len().next_multiple_of(TILE);
    let mut packed = vec![0.0; bins.len() * fields * stride];
    let blocks = packed.par_chunks_mut(BINS * fields * stride).enumerate();
    blocks.for_each(|(block, packed)| {
        for (row, ready) in rows.iter().enumerate() {
            for (at, of_bin) in packed.chunks_mut(fields * stride).enumerate() {
                let bin = bins.start + block * BINS + at;
                let kept = &ready.kept()[bin / BINS * fields..];
                for (field, lanes) in kept.iter().take(fields).enumerate() {
                    of_bin[field * stride + row] = lanes.get(bin % BINS);
                }
            }
        }
    });
    packed
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::gpu::rows::tests::gpu;
    use crate::{Divergence, Pairs};

    const LIMITS: [Limits; 3] = [
        Limits { binding_bytes: 2048, grid: 3, workgroup_size: 2, lanes: 2, chunk_bytes: 1024 },
        Limits {
            binding_bytes: 1 << 27,
            grid: 65_535,
            workgroup_size: 64,
            lanes: 1,
            chunk_bytes: 1 << 23,
        },
        Limits {
            binding_bytes: 1 << 30,
            grid: 65_535,
            workgroup_size: 256,
            lanes: 256,
            chunk_bytes: 1 << 25,
        },
    ];

    #[test]
    fn a_cut_keeps_to_the_limits() {
        for limits in LIMITS {
            for (sum, bins) in [(Sum::Kl, 1), (Sum::JensenShannon, 7), (Sum::Roots, 1_000)]
                .into_iter()
                .flat_map(|(sum, few)| [few, 1_025, 50_000, 1 << 23].map(|bins| (sum, bins)))
            {
                let known = sum.known();
                let of = |rows| Cut::new(rows, bins, &known, limits);
                let square = of([1 << 20, 1 << 20]);
                for rows in [[1, 1], [1, 1 << 20], [1 << 20, 3], [500, 700]] {
                    let cut = of(rows);
                    assert_eq!(cut.bins, square.bins, "{rows:?}, {bins} bins, {limits:?}");
                    let what = format!("{rows:?}, {bins} bins, {limits:?}: {cut:?}");
                    assert!(
                        cut.bins == bins || cut.bins < SEGMENT || cut.bins % SEGMENT == 0,
                        "{what}"
                    );
                    let segments = cut.bins.div_ceil(SEGMENT);
                    let tiles = cut.rows.map(|rows| rows / TILE);
                    assert!(cut.rows.iter().all(|&rows| rows > 0 && rows % TILE == 0), "{what}");
                    assert!(
                        tiles[0] * tiles[1] * segments <= (limits.grid as usize).pow(2),
                        "{what}"
                    );
                    assert!(
                        80 * tiles[0] * tiles[1] * segments <= limits.chunk_bytes as usize,
                        "{what}"
                    );
                    for rows in cut.rows {
                        let bytes = rows * cut.bins * known.fields * 4;
                        assert!(bytes <= limits.chunk_bytes as usize, "{what}");
                    }
                }
                // As large as they may be, or nearly.
                let work = square.rows[0] * square.rows[1] * square.bins;
                let least = limits.chunk_bytes as usize / 8;
                let full = square.rows[0] * square.bins * known.fields * 4 > least;
                assert!(full || work > least || limits.grid == 3, "{square:?}, {bins}, {limits:?}");
            }
        }
    }

    /// What a job makes of some pairs, or why it is refused.
    fn sums_of(change: impl Fn(&mut PairsJob)) -> Result<Vec<Vec<f64>>, String> {
        let gpu = gpu();
        let p =
            Array2::from_shape_fn((70, 1_500), |(row, bin)| 1.0 + ((row * 7 + bin) % 11) as f32);
        let pairs = Pairs::probs(&p, &p).unwrap().with_mass(crate::Mass::Normalize);
        let of = Of { divergence: Divergence::Bhattacharyya, pairs: &pairs };
        let known = of.fast().unwrap().known();
        let ready = of.ready(Side::P, 0..70, known.keep);
        let cut = Cut { rows: [100, 100], bins: 2_000 };
        let band = Band { of, known, cut, rows: [0..70, 0..70], sides: [&ready, &ready] };
        let chunk = band.chunks().next().unwrap();
        let mut job = band.job(&chunk, gpu.limits());
        change(&mut job);
        let records = pollster::block_on(async {
            let mut call = Call::<f32>::bare(crate::gpu::OPENING);
            let mut lent = gpu.lend(&mut call, job.bytes, false).await?.expect("it was waited for");
            band.pack(&chunk, job.bytes, lent.slot()?).unwrap();
            lent.run(call.until, move |device, slot| Ok(((), device.sum_pairs(slot, &job)?)))
                .await?;
            gpu.collected(&mut lent, &call).await
        });
        let mut sums = Vec::new();
        band.add(&chunk, &records.unwrap(), &mut sums).map(|()| sums)
    }

    #[test]
    fn what_did_not_run_or_not_to_its_end_is_refused() {
        let sums = sums_of(|_| {}).unwrap();
        assert_eq!(sums.len(), 2);
        // Each row's overlap with itself is 1.
        assert!((0..70).all(|row| (sums[1][row * 72 + row] - 1.0).abs() < 1e-6));
        let refused = |change: fn(&mut PairsJob), why: &str| {
            let error = sums_of(change).unwrap_err();
            assert!(error.contains(why), "{error}, not {why}");
        };
        refused(|job| job.dispatch.grid[0] -= 1, "did not run");
        refused(|job| job.params.bins -= 1, "cut short");
        refused(|job| job.params.segment_bins -= 1, "cut short");
        refused(|job| job.params.segments -= 1, "did not run");
    }
}
