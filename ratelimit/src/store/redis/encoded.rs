//! Requests as the script reads them.

use super::script::{FIELD_BYTES, bucket};
use crate::store::{Algorithm, Charge, Denies, Undo};

/// What the script counts up to. Doubles are still exact here.
const CEILING: i64 = 1 << 52;
/// Kind and size of a request.
const HEAD_BYTES: usize = 3;
/// A charge of any kind.
const CHARGE_BYTES: usize = 41;
/// Hits, limit and window of a plain charge.
const TERMS_BYTES: usize = 12;
/// A plain charge with terms.
const PLAIN_BYTES: usize = 1 + TERMS_BYTES + 4 + FIELD_BYTES;
/// A request's charges have their size in two bytes.
const MAX_CHARGES: usize = 255;

type Terms = [u8; TERMS_BYTES];

/// A request's charges for the script. Nearly all requests are plain: each charge adds hits to a fixed window, denies the
/// request by itself, and is taken back if the request is denied. The script needs less time for those.
#[derive(Debug)]
pub(super) struct Encoded {
    /// Behind the head.
    bytes: Vec<u8>,
    charges: usize,
    /// The terms of the last charge, if the request is plain.
    plain: Option<Terms>,
}

impl Encoded {
    /// At most 255 charges.
    pub(super) fn new(charges: &[Charge]) -> Self {
        let charges = charges.get(..MAX_CHARGES).unwrap_or(charges);
        let is_plain = charges.iter().all(is_plain);
        let size = if is_plain { PLAIN_BYTES } else { CHARGE_BYTES };
        let (mut bytes, mut known) = (Vec::with_capacity(charges.len() * size), None);
        for charge in charges {
            if is_plain {
                let terms = terms(charge);
                let is_new = known.replace(terms) != Some(terms);
                bytes.push(is_new.into());
                bytes.extend_from_slice(if is_new { &terms } else { &[] });
                push_name(charge, &mut bytes);
            } else {
                push_name(charge, &mut bytes);
                push_rest(charge, &mut bytes);
            }
        }
        Self { bytes, charges: charges.len(), plain: known }
    }

    pub(super) fn charges(&self) -> usize {
        self.charges
    }

    pub(super) fn is_plain(&self) -> bool {
        self.plain.is_some()
    }

    /// All requests of a batch, one behind the other. Plain ones do not repeat terms.
    pub(super) fn batch<'e>(requests: impl Iterator<Item = &'e Self> + Clone) -> Vec<u8> {
        let mut batch = Vec::with_capacity(requests.clone().map(|request| HEAD_BYTES + request.bytes.len()).sum());
        let mut known = None;
        for request in requests {
            let (mut bytes, mut flag) = (&*request.bytes, None);
            if let Some(last) = request.plain
                && let Some((_, rest)) = bytes.split_first()
                && let Some((first, rest)) = rest.split_first_chunk()
            {
                if known == Some(*first) {
                    (bytes, flag) = (rest, Some(0));
                }
                known = Some(last);
            }
            let size = u16::try_from(bytes.len() + usize::from(flag.is_some())).unwrap_or(u16::MAX);
            batch.push(request.is_plain().into());
            batch.extend_from_slice(&size.to_le_bytes());
            batch.extend(flag);
            batch.extend_from_slice(bytes);
        }
        batch
    }
}

fn is_plain(charge: &Charge) -> bool {
    charge.algorithm == Algorithm::FixedWindow
        && (1..=u32::MAX.into()).contains(&charge.hits)
        && charge.denies == Denies::Alone
        && charge.undo == Undo::Denied
}

fn terms(charge: &Charge) -> Terms {
    let mut terms = [0; TERMS_BYTES];
    let hits = u32::try_from(charge.hits).unwrap_or(u32::MAX);
    for (place, number) in terms.chunks_exact_mut(4).zip([hits, charge.limit, charge.window.max(1)]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    terms
}

fn push_name(charge: &Charge, bytes: &mut Vec<u8>) {
    let key = charge.key.0.to_be_bytes();
    bytes.extend_from_slice(&bucket(charge.key));
    bytes.extend_from_slice(key.last_chunk::<FIELD_BYTES>().unwrap_or(&[0; FIELD_BYTES]));
}

fn push_rest(charge: &Charge, bytes: &mut Vec<u8>) {
    let (algorithm, per_window) = match charge.algorithm {
        Algorithm::FixedWindow => (0, 0),
        Algorithm::SlidingWindow => (1, 0),
        Algorithm::Gcra { per_window } => (2, per_window.max(1)),
        Algorithm::Concurrency => (3, 0),
    };
    bytes.extend_from_slice(&charge.hits.clamp(-CEILING, CEILING).to_le_bytes());
    bytes.extend_from_slice(&charge.limit.to_le_bytes());
    bytes.extend_from_slice(&charge.window.max(1).to_le_bytes());
    bytes.extend_from_slice(&[charge.denies as u8, charge.undo as u8, algorithm]);
    bytes.extend_from_slice(&per_window.to_le_bytes());
}
