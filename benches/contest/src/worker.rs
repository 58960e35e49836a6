//! A tool in a process of its own, so that its memory can be told and its threads disturb no other.
//!
//! It answers each line that it reads with one line of JSON. Having loaded the case it says what it
//! is, before it computes anything. `check` has it compute the case once, write the values to
//! `TOOL.bin` as f64, and settle on the fastest of its forms; `time` has it run that form.

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Open;
use crate::case::Case;

/// A timing lasts at least as long: short calls are repeated.
const LEAST: Duration = Duration::from_millis(5);

/// What a call returned, in the type in which it did.
pub enum Values {
    /// One per row.
    F32(Vec<f32>),
    /// One per row.
    F64(Vec<f64>),
    /// What is no divergence has nothing to say.
    None,
}

type Result<T, E = String> = std::result::Result<T, E>;

/// One way to write the computation, ready to be called.
struct Form {
    name: &'static str,
    call: Box<dyn FnMut() -> Result<Values>>,
    on_device: Option<OnDevice>,
}

/// Of a form whose calls only hand their work to a device.
struct OnDevice {
    finish: Box<dyn FnMut() -> Result<()>>,
    fetch: Box<dyn FnMut() -> Result<Values>>,
}

impl Form {
    /// One call, and what it computed.
    fn values(&mut self) -> Result<Values> {
        let values = (self.call)()?;
        match &mut self.on_device {
            None => Ok(values),
            Some(device) => (device.finish)().and_then(|()| (device.fetch)()),
        }
    }

    /// The time of one call, the mean of as many as it takes.
    fn seconds(&mut self) -> Result<f64> {
        let mut calls = 1;
        loop {
            let start = Instant::now();
            for _ in 0..calls {
                std::hint::black_box((self.call)()?);
            }
            if let Some(device) = &mut self.on_device {
                (device.finish)()?;
            }
            let elapsed = start.elapsed();
            if elapsed >= LEAST {
                return Ok(elapsed.as_secs_f64() / f64::from(calls));
            }
            calls *= 2;
        }
    }
}

/// A tool with the case in its hands.
pub struct Tool {
    about: String,
    forms: Vec<Form>,
}

impl Tool {
    /// What it is exactly: version, adapter.
    pub fn new(about: String) -> Tool {
        Tool { about, forms: Vec::new() }
    }

    /// The same with one more form. The fastest is the one that counts.
    pub fn with(
        mut self,
        name: &'static str,
        call: impl FnMut() -> Result<Values> + 'static,
    ) -> Tool {
        self.forms.push(Form { name, call: Box::new(call), on_device: None });
        self
    }

    /// The same with a form whose calls hand their work to a device. `finish` waits for all of them,
    /// `fetch` brings the values here, which is not timed.
    pub fn with_on_device(
        mut self,
        name: &'static str,
        mut call: impl FnMut() -> Result<()> + 'static,
        finish: impl FnMut() -> Result<()> + 'static,
        fetch: impl FnMut() -> Result<Values> + 'static,
    ) -> Tool {
        let call = move || call().map(|()| Values::None);
        let on_device = OnDevice { finish: Box::new(finish), fetch: Box::new(fetch) };
        self.forms.push(Form { name, call: Box::new(call), on_device: Some(on_device) });
        self
    }
}

pub fn serve(open: Open, name: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    let (case, sides) = Case::read(folder)?;
    let mut tool = match open(name, &case, sides) {
        Ok(tool) => tool,
        Err(reason) => return answer(&json!({ "absent": reason })),
    };
    answer(&json!({ "about": tool.about }))?;
    let mut best = 0;
    for line in stdin().lock().lines() {
        match line?.as_str() {
            "check" => {
                best = fastest(&mut tool.forms)?;
                let values = tool.forms[best].values()?;
                std::fs::write(folder.join(format!("{name}.bin")), bytes(values))?;
                answer(&json!({ "form": tool.forms[best].name }))?;
            }
            _ => answer(&json!({ "seconds": tool.forms[best].seconds()? }))?,
        }
    }
    Ok(())
}

fn answer(line: &Value) -> Result<(), Box<dyn Error>> {
    println!("{line}");
    Ok(stdout().flush()?)
}

/// Called once each to warm up, and once more for the comparison.
fn fastest(forms: &mut [Form]) -> Result<usize> {
    let mut times = Vec::new();
    for form in forms.iter_mut() {
        form.values()?;
        times.push(form.seconds()?);
    }
    let best = (0..times.len()).min_by(|&one, &other| times[one].total_cmp(&times[other]));
    Ok(best.expect("every tool has a form"))
}

fn bytes(values: Values) -> Vec<u8> {
    let values: Vec<f64> = match values {
        Values::F32(values) => values.into_iter().map(f64::from).collect(),
        Values::F64(values) => values,
        Values::None => Vec::new(),
    };
    bytemuck::cast_slice(&values).to_vec()
}
