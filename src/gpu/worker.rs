//! The thread that owns a device.
//!
//! wgpu panics on some driver errors, and a dying device may block whoever drops it. So all of it
//! happens here: a panic becomes an error, and callers only ever wait for an answer.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_intrusive::channel::shared::oneshot_channel;

use super::device::Device;

/// How long the owner of a worker waits for its device to be torn down.
const FAREWELL: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&mut Result<Device, String>) + Send>;

/// A device on a thread of its own. Dropping it ends the thread.
pub(crate) struct Worker {
    jobs: Option<Mutex<Sender<Job>>>,
    gone: Mutex<Receiver<()>>,
}

impl Worker {
    /// Starts the thread, which opens its device first.
    pub(crate) async fn start(
        open: impl FnOnce() -> Result<Device, String> + Send + 'static,
    ) -> Result<Worker, String> {
        let (jobs, queue) = channel::<Job>();
        let (alive, gone) = channel::<()>();
        std::thread::Builder::new()
            .name("kullback-gpu".into())
            .spawn(move || {
                let mut device = catch(open);
                for job in queue {
                    job(&mut device);
                }
                if let Ok(device) = device {
                    close(device);
                }
                drop(alive);
            })
            .map_err(|error| format!("no thread could be started: {error}"))?;
        let worker = Worker { jobs: Some(Mutex::new(jobs)), gone: Mutex::new(gone) };
        worker.run(|_| Ok(())).await.map(|()| worker)
    }

    /// Runs a job on the device's thread and returns what it returned. Jobs run in the order in
    /// which they were handed over, which happens at once, not at the first `await`.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Device) -> Result<R, String> + Send + 'static,
    ) -> impl Future<Output = Result<R, String>> + Send + 'static {
        let (answer, receiver) = oneshot_channel();
        let task: Job = Box::new(move |device| {
            let result = match device {
                Ok(open) => catch(|| job(open)),
                Err(closed) => Err(closed.clone()),
            };
            // After a fault nothing on this device can be trusted.
            let broken = match &result {
                Err(fault) => std::mem::replace(device, Err(fault.clone())).ok(),
                Ok(_) => None,
            };
            // The caller may have gone away; then nobody wants to know.
            let _ = answer.send(result);
            if let Some(broken) = broken {
                // A hung device blocks whoever drops it until it is done, if ever.
                let _ = std::thread::Builder::new().spawn(move || close(broken));
            }
        });
        let sent = self.jobs.as_ref().is_some_and(|jobs| {
            jobs.lock().unwrap_or_else(PoisonError::into_inner).send(task).is_ok()
        });
        async move {
            if !sent {
                return Err("its thread has ended".into());
            }
            receiver.receive().await.unwrap_or_else(|| Err("its thread has ended".into()))
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        let gone = self.gone.get_mut().unwrap_or_else(PoisonError::into_inner);
        if gone.recv_timeout(FAREWELL) == Err(RecvTimeoutError::Timeout) {
            log::warn!("the GPU device is still busy; its thread was left to end by itself");
        }
    }
}

/// What the closure returns, or what it panicked with as an error.
pub(crate) fn catch<R>(run: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(format!("wgpu panicked: {}", message(&*panic))))
}

fn close(device: Device) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(device))) {
        log::warn!("closing the GPU device panicked: {}", message(&*panic));
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::adapter::adapters;
    use crate::gpu::{Device, Gpu};

    fn gpu() -> Gpu {
        let adapter = adapters().into_iter().next().expect("the tests need an adapter");
        pollster::block_on(Gpu::open(&adapter, None)).expect("it opens")
    }

    fn run<R: Send + 'static>(
        gpu: &Gpu,
        job: impl FnOnce(&mut Device) -> Result<R, String> + Send + 'static,
    ) -> Result<R, String> {
        pollster::block_on(gpu.worker.run(job))
    }

    #[test]
    fn a_panic_on_the_device_is_an_error_then_and_later() {
        let gpu = gpu();
        assert_eq!(run(&gpu, |_| Ok(1)), Ok(1));
        let panicked: Result<(), _> = run(&gpu, |_| panic!("the driver is gone"));
        assert_eq!(panicked, Err("wgpu panicked: the driver is gone".into()));
        assert_eq!(run(&gpu, |_| Ok(2)), Err("wgpu panicked: the driver is gone".into()));
    }

    #[test]
    fn a_fault_closes_the_device_for_every_caller() {
        let gpu = gpu();
        assert_eq!(run::<()>(&gpu, |_| Err("lost".into())), Err("lost".into()));
        assert_eq!(run(&gpu, |_| Ok(1)), Err("lost".into()));
    }

    #[test]
    fn a_device_that_does_not_open_is_an_error() {
        let worker = pollster::block_on(Worker::start(|| Err("no such device".into())));
        assert_eq!(worker.err(), Some("no such device".into()));
        let worker = pollster::block_on(Worker::start(|| panic!("no driver")));
        assert_eq!(worker.err(), Some("wgpu panicked: no driver".into()));
    }
}
