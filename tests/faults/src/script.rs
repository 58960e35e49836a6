//! What each call is to do, by the rules and by what happened before.

use std::collections::HashMap;

use crate::function::Function;
use crate::rule::{Act, LOST, Lasting, Lie, Rule};

/// A device, by its dispatch key.
pub type Key = usize;

/// The rules, and how often each function was called.
#[derive(Debug, Default)]
pub struct Script {
    rules: Vec<Rule>,
    calls: HashMap<Function, usize>,
    /// The devices that are gone, and whether they are lost or hung.
    gone: HashMap<Key, Act>,
}

impl Script {
    /// A script that nothing was called of yet.
    pub fn new(rules: Vec<Rule>) -> Script {
        Script { rules, ..Script::default() }
    }

    /// What this call does instead of its work, if anything, and the rule that applies if any.
    pub fn next(&mut self, function: Function, device: Key) -> (Option<Act>, Option<Rule>) {
        let count = self.calls.entry(function).or_default();
        *count += 1;
        let call = *count;
        let applies = |rule: &&Rule| {
            let later = rule.lasting == Lasting::Sticky && rule.call < call;
            rule.function == function && (rule.call == call || later)
        };
        let rule = self.rules.iter().find(applies).copied();
        let act = match rule {
            Some(Rule { act, lasting: Lasting::Device, .. }) => {
                self.gone.insert(device, act);
                self.of_the_gone(function, device)
            }
            Some(rule) => Some(rule.act),
            None => self.of_the_gone(function, device),
        };
        (act, rule)
    }

    /// Devices are told apart by an address that the next one may get.
    pub fn forget(&mut self, device: Key) {
        self.gone.remove(&device);
    }

    fn of_the_gone(&self, function: Function, device: Key) -> Option<Act> {
        match self.gone.get(&device)? {
            Act::Never if function.submits() => Some(Act::Lie(Lie::Skip)),
            Act::Never if function.idles() => Some(Act::Never),
            // The driver itself waits for what was never submitted.
            Act::Never => None,
            _ => function.tells_of_loss().then_some(Act::Code(LOST)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::rules;
    use Function::{CreateBuffer, DeviceWaitIdle, QueueSubmit, WaitSemaphores};

    fn acts(
        script: &mut Script,
        function: Function,
        device: Key,
        calls: usize,
    ) -> Vec<Option<Act>> {
        (0..calls).map(|_| script.next(function, device).0).collect()
    }

    #[test]
    fn a_fault_comes_once_or_from_then_on() {
        let mut script = Script::new(rules("CreateBuffer:2:-2,QueueSubmit:2:-1:sticky").unwrap());
        let (oom, host) = (Some(Act::Code(-2)), Some(Act::Code(-1)));
        assert_eq!(acts(&mut script, CreateBuffer, 7, 4), [None, oom, None, None]);
        assert_eq!(acts(&mut script, QueueSubmit, 7, 4), [None, host, host, host]);
        assert_eq!(acts(&mut script, WaitSemaphores, 7, 2), [None, None]);
    }

    #[test]
    fn a_lost_device_stays_lost_and_another_works() {
        let mut script = Script::new(rules("QueueSubmit:2:-4:device").unwrap());
        let lost = Some(Act::Code(LOST));
        assert_eq!(acts(&mut script, QueueSubmit, 7, 3), [None, lost, lost]);
        assert_eq!(script.next(WaitSemaphores, 7).0, lost);
        assert_eq!(script.next(CreateBuffer, 7).0, None);
        assert_eq!(script.next(QueueSubmit, 8).0, None);
        script.forget(7);
        assert_eq!(script.next(QueueSubmit, 7).0, None);
    }

    #[test]
    fn a_hung_device_takes_work_and_is_never_done() {
        let mut script = Script::new(rules("QueueSubmit:1:never:device").unwrap());
        let swallowed = Some(Act::Lie(Lie::Skip));
        assert_eq!(acts(&mut script, QueueSubmit, 7, 2), [swallowed, swallowed]);
        assert_eq!(script.next(WaitSemaphores, 7).0, None);
        assert_eq!(script.next(DeviceWaitIdle, 7).0, Some(Act::Never));
        assert_eq!(script.next(DeviceWaitIdle, 8).0, None);
    }
}
