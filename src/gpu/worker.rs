//! The thread that owns a device.
//!
//! wgpu panics on some driver errors, and a dying device may block whoever drops it. So all of it
//! happens here: a panic becomes an error, and callers only ever wait for an answer.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_intrusive::channel::shared::oneshot_channel;

use super::device::Device;
use super::fault::Fault;
use crate::error::Cause;

/// How long the owner of a worker waits for its device to be torn down.
const FAREWELL: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&mut Result<Device, Fault>) + Send>;

/// A device on a thread of its own. Dropping it ends the thread.
pub(crate) struct Worker {
    jobs: Option<Mutex<Sender<Job>>>,
    gone: Mutex<Receiver<()>>,
    /// Somebody waited for it in vain.
    hung: AtomicBool,
    /// When it was last done with a job.
    last_done: Arc<Mutex<Instant>>,
}

impl Worker {
    /// Starts the thread, which opens its device first. That it is open shows in the first answer.
    pub(crate) fn start(
        open: impl FnOnce() -> Result<Device, Fault> + Send + 'static,
    ) -> Result<Worker, Fault> {
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
                    end(|| device.close());
                }
                drop(alive);
            })
            .map_err(|error| format!("no thread could be started: {error}"))?;
        Ok(Worker {
            jobs: Some(Mutex::new(jobs)),
            gone: Mutex::new(gone),
            hung: AtomicBool::new(false),
            last_done: Arc::new(Mutex::new(Instant::now())),
        })
    }

    /// Gives the thread up: it hangs in the driver, and ends by itself if that ever returns.
    pub(crate) fn give_up(&self) {
        self.hung.store(true, Ordering::Release);
    }

    /// When it was last done with a job, whosever.
    pub(crate) fn last_done(&self) -> Instant {
        *self.last_done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a job on the device's thread and returns what it returned. Jobs run in the order in
    /// which they were handed over, which happens at once, not at the first `await`.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Device) -> Result<R, Fault> + Send + 'static,
    ) -> impl Future<Output = Result<R, Fault>> + Send + 'static {
        let (answer, receiver) = oneshot_channel();
        let last_done = self.last_done.clone();
        let task: Job = Box::new(move |device| {
            let result = match device {
                Ok(open) => catch(|| job(open)).map_err(|fault| diagnosed(open, fault)),
                Err(closed) => Err(closed.clone()),
            };
            // After a fault nothing on this device can be trusted.
            let broken = match &result {
                Err(fault) => std::mem::replace(device, Err(fault.clone())).ok(),
                Ok(_) => None,
            };
            // Before the answer, which may be what the process ends with.
            if let (Some(broken), Err(fault)) = (broken, &result) {
                end(|| broken.leak(fault.cause));
            }
            *last_done.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            // The caller may have gone away; then nobody wants to know, and what was made goes here.
            end(|| {
                drop(answer.send(result));
                Ok(())
            });
        });
        let hung = self.hung.load(Ordering::Acquire);
        let sent = self.hand_over(task);
        async move {
            if hung {
                return Err(Fault { cause: Cause::TimedOut, message: "it hangs".into() });
            }
            if !sent {
                return Err("its thread has ended".into());
            }
            receiver.receive().await.unwrap_or_else(|| Err("its thread has ended".into()))
        }
    }

    /// Queues a task, also behind one that hangs: what it holds of the device must not go on any other
    /// thread, for the driver may hold a lock. What cannot be queued is leaked.
    fn hand_over(&self, task: Job) -> bool {
        let Some(jobs) = &self.jobs else { return false };
        let sent = jobs.lock().unwrap_or_else(PoisonError::into_inner).send(task);
        sent.map_err(std::mem::forget).is_ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if *self.hung.get_mut() {
            return;
        }
        let gone = self.gone.get_mut().unwrap_or_else(PoisonError::into_inner);
        if gone.recv_timeout(FAREWELL) == Err(RecvTimeoutError::Timeout) {
            log::warn!("the GPU device is still busy; its thread was left to end by itself");
        }
    }
}

/// What the closure returns, or what it panicked with as an error.
pub(crate) fn catch<R>(run: impl FnOnce() -> Result<R, Fault>) -> Result<R, Fault> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        Err(Fault::new(Cause::Panicked, format!("wgpu panicked: {}", message(&*panic))))
    })
}

/// The fault that was at the root of one that a call reported.
fn diagnosed(device: &Device, fault: Fault) -> Fault {
    match fault.cause {
        // One that hangs is not asked.
        Cause::TimedOut => fault,
        // That a device is lost is told when it is asked; until then buffers are said to be invalid.
        _ => catch(|| Ok(device.loss())).ok().flatten().unwrap_or(fault),
    }
}

/// Ends a device, of which nobody wants to hear any more.
fn end(how: impl FnOnce() -> Result<(), Fault>) {
    if let Err(fault) = catch(how) {
        log::warn!("closing the GPU device failed: {}", fault.message);
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::TryRecvError;
    use std::thread;

    use super::*;
    use crate::gpu::rows::tests::gpu;
    use crate::gpu::{Device, Gpu};

    fn run<R: Send + 'static>(
        gpu: &Gpu,
        job: impl FnOnce(&mut Device) -> Result<R, Fault> + Send + 'static,
    ) -> Result<R, Fault> {
        pollster::block_on(gpu.worker.run(job))
    }

    fn fault(cause: Cause, message: &str) -> Fault {
        Fault { cause, message: message.into() }
    }

    #[test]
    fn a_panic_on_the_device_is_an_error_then_and_later() {
        let gpu = gpu();
        assert_eq!(run(&gpu, |_| Ok(1)), Ok(1));
        let panicked: Result<(), _> = run(&gpu, |_| panic!("the driver is gone"));
        let gone = fault(Cause::Panicked, "wgpu panicked: the driver is gone");
        assert_eq!(panicked, Err(gone.clone()));
        assert_eq!(run(&gpu, |_| Ok(2)), Err(gone));
    }

    #[test]
    fn a_fault_closes_the_device_for_every_caller() {
        let gpu = gpu();
        assert_eq!(run::<()>(&gpu, |_| Err("lost".into())), Err("lost".into()));
        assert_eq!(run(&gpu, |_| Ok(1)), Err("lost".into()));
    }

    #[test]
    fn a_device_that_does_not_open_is_an_error() {
        let opened = |worker: Worker| pollster::block_on(worker.run(|_| Ok(())));
        let worker = Worker::start(|| Err("no such device".into())).unwrap();
        assert_eq!(opened(worker), Err("no such device".into()));
        let worker = Worker::start(|| panic!("no driver")).unwrap();
        assert_eq!(opened(worker), Err(fault(Cause::Panicked, "wgpu panicked: no driver")));
    }

    #[test]
    fn a_device_that_hangs_is_given_up() {
        let gpu = gpu();
        let (let_go, held) = channel::<()>();
        let waiting = gpu.worker.run(move |_| {
            let _ = held.recv();
            Ok(())
        });
        let until = Instant::now() + Duration::from_millis(50);
        let answer = pollster::block_on(gpu.clock.within(until, waiting));
        assert_eq!(answer, None);
        gpu.worker.give_up();
        assert_eq!(run(&gpu, |_| Ok(1)), Err(fault(Cause::TimedOut, "it hangs")));
        // Before the driver lets go, or this would not end.
        drop(gpu);
        drop(let_go);
    }

    /// Tells when and where it goes.
    struct Held(Sender<thread::ThreadId>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    /// The driver may hold a lock that whatever is taken from it would wait for.
    #[test]
    fn what_jobs_hold_goes_on_the_thread_that_hangs_or_not_at_all() {
        let gpu = gpu();
        let of_worker = run(&gpu, |_| Ok(thread::current().id())).unwrap();
        let (let_go, held) = channel::<()>();
        drop(gpu.worker.run(move |_| {
            let _ = held.recv();
            Ok(())
        }));
        gpu.worker.give_up();
        let (tell, told) = channel();
        let slot = Held(tell);
        let late = run(&gpu, move |_| {
            drop(slot);
            Ok(())
        });
        assert_eq!(late, Err(fault(Cause::TimedOut, "it hangs")));
        assert_eq!(told.try_recv(), Err(TryRecvError::Empty));
        drop(let_go);
        assert_eq!(told.recv(), Ok(of_worker));
    }

    #[test]
    fn a_lack_of_memory_is_told_from_other_faults() {
        let gpu = gpu();
        let panicked: Result<(), _> = run(&gpu, |_| panic!("Not enough memory left."));
        assert_eq!(panicked.map_err(|fault| fault.cause), Err(Cause::OutOfMemory));
    }
}
