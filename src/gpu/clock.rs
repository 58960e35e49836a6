//! Waiting that ends. A driver may keep its thread for good, so callers look at a clock, not at it.
//!
//! A waker is code of the caller's. Timers, channels and semaphores would run it under their locks, where
//! one that panics or polls at once does harm; so they get one of ours, and the clock's thread runs the
//! caller's when no lock is held.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_intrusive::timer::{Clock as _, StdClock, Timer, TimerService};

use super::fault::Fault;

/// Milliseconds since it was first looked at.
static MILLISECONDS: LazyLock<StdClock> = LazyLock::new(StdClock::new);

/// Whoever looks so much later than a time was over was not there when it ended, as a process that was
/// stopped or a caller that had something else to do: what was to be done in it may have been stopped too.
const MISSED: Duration = Duration::from_secs(1);

/// Whether nobody was there when a time ended.
pub(crate) fn is_missed(end: Instant) -> bool {
    Instant::now() > end + MISSED
}

/// A thread that wakes those who have waited long enough.
pub(crate) struct Clock {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    timers: TimerService,
    /// Those that are to be woken.
    due: Mutex<Vec<Arc<Relay>>>,
    /// When the thread is to wake up by itself.
    wakes_at: AtomicU64,
    ended: AtomicBool,
}

/// Stands for a caller's waker wherever locks are held.
struct Relay {
    caller: Waker,
    shared: Arc<Shared>,
    thread: Thread,
}

impl Wake for Relay {
    fn wake(self: Arc<Relay>) {
        let thread = self.thread.clone();
        self.shared.clone().due().push(self);
        thread.unpark();
    }
}

impl Clock {
    pub(crate) fn start() -> Result<Clock, Fault> {
        let shared = Arc::new(Shared {
            timers: TimerService::new(&*MILLISECONDS),
            due: Mutex::default(),
            wakes_at: AtomicU64::new(u64::MAX),
            ended: AtomicBool::new(false),
        });
        let run = shared.clone();
        let thread = thread::Builder::new().name("kullback-clock".into()).spawn(move || run.run());
        let thread = thread.map_err(|error| format!("no thread could be started: {error}"))?;
        Ok(Clock { shared, thread: thread.thread().clone() })
    }

    /// What comes of a future, if it comes in time.
    pub(crate) async fn within<F: Future>(&self, until: Instant, future: F) -> Option<F::Output> {
        let left = until.saturating_duration_since(Instant::now()).as_millis() as u64;
        // Both are rounded down: a millisecond of each that has begun is given.
        let until = MILLISECONDS.now().saturating_add(left).saturating_add(2);
        let mut future = pin!(future);
        let mut timer = pin!(self.shared.timers.deadline(until));
        poll_fn(|context| {
            let waker = self.relay(context.waker());
            let mut context = Context::from_waker(&waker);
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Poll::Ready(Some(output));
            }
            if timer.as_mut().poll(&mut context).is_ready() {
                return Poll::Ready(None);
            }
            if until < self.shared.wakes_at.load(Ordering::Acquire) {
                self.thread.unpark();
            }
            Poll::Pending
        })
        .await
    }

    fn relay(&self, caller: &Waker) -> Waker {
        let (shared, thread) = (self.shared.clone(), self.thread.clone());
        Arc::new(Relay { caller: caller.clone(), shared, thread }).into()
    }
}

impl Shared {
    fn due(&self) -> MutexGuard<'_, Vec<Arc<Relay>>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those that are due. One whose waker panics is its own fault, and nobody else's.
    fn wake(&self) {
        let due = std::mem::take(&mut *self.due());
        for relay in due {
            if catch_unwind(AssertUnwindSafe(|| relay.caller.wake_by_ref())).is_err() {
                log::error!("the waker of a caller panicked");
            }
        }
    }

    fn run(&self) {
        while !self.ended.load(Ordering::Acquire) {
            // Timers that come from here on find this, and wake the thread.
            self.wakes_at.store(u64::MAX, Ordering::Release);
            self.timers.check_expirations();
            self.wake();
            let Some(next) = self.timers.next_expiration() else {
                thread::park();
                continue;
            };
            self.wakes_at.store(next, Ordering::Release);
            let left = next.saturating_sub(MILLISECONDS.now());
            thread::park_timeout(Duration::from_millis(left));
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        // It ends by itself: this may be it, waking a task that held the last handle.
        self.shared.ended.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn wait<F: Future>(clock: &Clock, milliseconds: u64, future: F) -> Option<F::Output> {
        let until = Instant::now() + Duration::from_millis(milliseconds);
        pollster::block_on(clock.within(until, future))
    }

    #[test]
    fn what_comes_in_time_is_had() {
        let clock = Clock::start().unwrap();
        assert_eq!(wait(&clock, 10_000, ready(1)), Some(1));
        assert_eq!(wait(&clock, 0, ready(2)), Some(2));
    }

    /// A waker that does harm to whoever runs it.
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Panics>) {
            panic!("a caller's waker");
        }
    }

    #[test]
    fn a_waker_that_panics_harms_nobody() {
        let clock = Clock::start().unwrap();
        let waker = Waker::from(Arc::new(Panics));
        let (answer, receiver) = futures_intrusive::channel::shared::oneshot_channel();
        let soon = Instant::now() + Duration::from_millis(50);
        let mut answered = pin!(clock.within(soon + Duration::from_secs(20), receiver.receive()));
        let mut late = pin!(clock.within(soon, pending::<()>()));
        let mut context = Context::from_waker(&waker);
        assert!(answered.as_mut().poll(&mut context).is_pending());
        assert!(late.as_mut().poll(&mut context).is_pending());
        answer.send(1).unwrap();
        assert_eq!(wait::<std::future::Pending<()>>(&clock, 200, pending()), None);
        assert_eq!(pollster::block_on(answered), Some(Some(1)));
        assert_eq!(pollster::block_on(late), None);
    }

    #[test]
    fn waits_end_in_the_order_of_their_ends() {
        let clock = Clock::start().unwrap();
        let start = Instant::now();
        thread::scope(|scope| {
            let long = scope.spawn(|| {
                (wait::<std::future::Pending<()>>(&clock, 3_000, pending()), start.elapsed())
            });
            // The thread waits for the later end already.
            thread::sleep(Duration::from_millis(100));
            assert_eq!(wait::<std::future::Pending<()>>(&clock, 100, pending()), None);
            let short = start.elapsed();
            let (none, long) = long.join().unwrap();
            assert_eq!(none, None);
            assert!(short < long, "{short:?} {long:?}");
            assert!(long >= Duration::from_millis(3_000), "{long:?}");
        });
    }
}
