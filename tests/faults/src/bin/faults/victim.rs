//! The library at work, through its public interface alone.

use std::time::Duration;

use kullback::{Batch, Divergence, Engine, Error, Outcome};
use kullback_faults::child::Program;
use kullback_faults::job::{self, NO_ROWS, OPENING, Work};
use kullback_faults::report::{Call, End, Recovery};

/// How long a call may wait for a device that makes no progress.
const DEADLINE: Duration = Duration::from_secs(2);
/// The library promises less; here it is about values that belong to another row, or to none.
const TOLERANCE: f64 = 1e-5;

/// Opens an engine, computes all the work, and lets the engine go.
pub fn run(program: Program) {
    let (engine, opened) = job::call(OPENING, || open(program));
    job::say(&opened);
    let Some(engine) = engine else { return };
    for work in [job::large()].into_iter().chain(job::all()) {
        job::say(&compute(program, &engine, &work));
    }
    let (_, closed) = job::call("close", || {
        drop(engine);
        Ok(((), NO_ROWS, Recovery::default()))
    });
    job::say(&closed);
}

fn open(program: Program) -> Result<(Engine, End, Recovery), String> {
    let engine = match program {
        Program::Auto => Engine::auto(),
        Program::Fallback => Engine::gpu_or_cpu(),
        _ => Engine::gpu().map_err(|error| error.to_string())?,
    };
    Ok((engine.with_deadline(DEADLINE), NO_ROWS, Recovery::default()))
}

fn compute(program: Program, engine: &Engine, work: &Work) -> Call {
    let rows = || -> Result<Outcome<f32>, Error> {
        let batch = Batch::of(work.kinds[0], &work.p, work.kinds[1], &work.q)?;
        engine.rows(Divergence::Kl, &batch.with_temperature(work.temperature)?)
    };
    let (_, call) = job::call(work.name, || {
        let outcome = rows().map_err(|error| error.to_string())?;
        let values = outcome.values.as_slice().ok_or("the values do not lie side by side")?;
        let survived = &outcome.recovery;
        if program == Program::Fallback {
            let told = survived.cpu_rows > 0 && survived.reason.is_some();
            if told != (outcome.backend != "gpu") {
                return Err(format!("backend {}, but {survived:?}", outcome.backend));
            }
        }
        Ok(((), job::judge(values, &work.answers, TOLERANCE), recovery(survived)))
    });
    call
}

fn recovery(survived: &kullback::Recovery) -> Recovery {
    Recovery {
        faults: survived.faults,
        reopened: survived.reopened,
        cpu_rows: survived.cpu_rows,
        reason: survived.reason.clone(),
    }
}
