//! The library at work, through its public interface alone.

use std::time::Duration;

use kullback::{Batch, Divergence, Engine, Error, Kind, Outcome};
use kullback_faults::job::{self, NO_ROWS, Work};
use kullback_faults::report::{Call, End, Recovery};

/// How long a call may wait for a device that makes no progress.
const DEADLINE: Duration = Duration::from_secs(2);
/// The library promises less; here it is about values that belong to another row, or to none.
const TOLERANCE: f64 = 1e-5;

/// Opens an engine, computes all the work, and lets the engine go.
pub fn run(fallback: bool) {
    let (engine, opened) = job::call("open", || open(fallback));
    job::say(&opened);
    let Some(engine) = engine else { return };
    for work in job::all() {
        job::say(&compute(&engine, &work));
    }
    let (_, closed) = job::call("close", || {
        drop(engine);
        Ok(((), NO_ROWS, Recovery::default()))
    });
    job::say(&closed);
}

/// With the CPU to fall back on as the library's documentation shows it.
fn open(fallback: bool) -> Result<(Engine, End, Recovery), String> {
    let mut recovery = Recovery::default();
    let engine = match (Engine::gpu(), fallback) {
        (Ok(engine), true) => engine.with_cpu_fallback(),
        (Ok(engine), false) => engine,
        (Err(error), true) => {
            recovery.reason = Some(error.to_string());
            Engine::cpu()
        }
        (Err(error), false) => return Err(error.to_string()),
    };
    Ok((engine.with_deadline(DEADLINE), NO_ROWS, recovery))
}

fn compute(engine: &Engine, work: &Work) -> Call {
    let rows = || -> Result<Outcome<f32>, Error> {
        let kind = if work.logits { Kind::Logits } else { Kind::Probs };
        engine.rows(Divergence::Kl, &Batch::of(kind, &work.p, kind, &work.q)?)
    };
    let (_, call) = job::call(work.name, || {
        let outcome = rows().map_err(|error| error.to_string())?;
        let values = outcome.values.as_slice().ok_or("the values do not lie side by side")?;
        Ok(((), job::judge(values, &work.answers, TOLERANCE), recovery(&outcome)))
    });
    call
}

fn recovery(outcome: &Outcome<f32>) -> Recovery {
    let survived = &outcome.recovery;
    Recovery {
        faults: survived.faults,
        reopened: survived.reopened,
        cpu_rows: survived.cpu_rows,
        reason: survived.reason.clone(),
    }
}
