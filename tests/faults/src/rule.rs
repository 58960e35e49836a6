//! Rules: which call of which function does what instead of its work.

use std::fmt;
use std::str::FromStr;

use crate::function::Function;

/// One fault: `Function:N:ACT`, once, or `Function:N:ACT:sticky`, or `Function:N:ACT:device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The function.
    pub function: Function,
    /// Which of its calls, counted from 1.
    pub call: usize,
    /// What happens instead.
    pub act: Act,
    /// And to which calls after that.
    pub lasting: Lasting,
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// For one call.
    Once,
    /// For every later call of the function, on every device.
    Sticky,
    /// The device is gone: every function that can tell of it does. Other devices work.
    Device,
}

/// What a call does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It returns this code.
    Code(i32),
    /// It waits for what never comes: until its limit, if it has one.
    Never,
    /// It does something else, and says that all went well.
    Lie(Lie),
}

/// The lies of a broken adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing is done.
    Skip,
    /// A dispatch of half the workgroups.
    Half,
    /// A dispatch without its last workgroup.
    Tail,
    /// A copy of zeros.
    Zeros,
    /// A copy of NaNs.
    Nan,
    /// A copy that has every word in the place of the one before.
    Shift,
    /// A copy that has the last half in the place of the first.
    Swap,
    /// A copy with one byte from its neighbour.
    Byte,
    /// A submission without its commands, but with its signals.
    Empty,
    /// A shader whose additions are subtractions.
    Minus,
    /// A shader with one bit flipped in each of its f32 constants.
    Flip,
}

impl Lie {
    const ALL: [(&str, Lie); 11] = [
        ("skip", Lie::Skip),
        ("half", Lie::Half),
        ("tail", Lie::Tail),
        ("zeros", Lie::Zeros),
        ("nan", Lie::Nan),
        ("shift", Lie::Shift),
        ("swap", Lie::Swap),
        ("byte", Lie::Byte),
        ("empty", Lie::Empty),
        ("minus", Lie::Minus),
        ("flip", Lie::Flip),
    ];

    fn suits(self, function: Function) -> bool {
        match self {
            Lie::Skip => !function.can_fail(),
            Lie::Half | Lie::Tail => function == Function::CmdDispatch,
            Lie::Zeros | Lie::Nan | Lie::Shift | Lie::Swap | Lie::Byte => {
                function == Function::CmdCopyBuffer
            }
            Lie::Empty => function == Function::QueueSubmit,
            Lie::Minus | Lie::Flip => function == Function::CreateShaderModule,
        }
    }
}

impl Rule {
    fn suits(self) -> bool {
        match (self.act, self.lasting) {
            (Act::Lie(lie), Lasting::Once | Lasting::Sticky) => lie.suits(self.function),
            (Act::Lie(_), Lasting::Device) => false,
            (Act::Code(_), Lasting::Device) => {
                self.act == Act::Code(LOST) && self.function.tells_of_loss()
            }
            (Act::Code(_), _) => self.function.can_fail(),
            // A device that drops one submission and does the next has no order in its queue.
            (Act::Never, Lasting::Device) => self.function.submits(),
            (Act::Never, Lasting::Once) if self.function.allocates() => true,
            (Act::Never, _) => self.function.waits() || self.function.idles(),
        }
    }
}

/// `VK_ERROR_DEVICE_LOST`.
pub const LOST: i32 = -4;

/// Reads rules that are separated by commas.
///
/// # Errors
/// The first that cannot be read, and why.
pub fn rules(text: &str) -> Result<Vec<Rule>, String> {
    text.split(',').filter(|rule| !rule.is_empty()).map(str::parse).collect()
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Rule, String> {
        let wrong = |what: &str| format!("fault '{text}': {what}");
        let parts: Vec<&str> = text.split(':').collect();
        let (function, call, act, lasting) = match parts[..] {
            [function, call, act] => (function, call, act, Lasting::Once),
            [function, call, act, "sticky"] => (function, call, act, Lasting::Sticky),
            [function, call, act, "device"] => (function, call, act, Lasting::Device),
            _ => return Err(wrong("expected Function:N:ACT, perhaps with :sticky or :device")),
        };
        let rule = Rule {
            function: Function::by_name(function).ok_or_else(|| wrong("no such function"))?,
            call: call
                .parse()
                .ok()
                .filter(|&call| call > 0)
                .ok_or_else(|| wrong("N is counted from 1"))?,
            act: act.parse().map_err(wrong)?,
            lasting,
        };
        rule.suits().then_some(rule).ok_or_else(|| wrong("this function cannot do that"))
    }
}

impl FromStr for Act {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Act, &'static str> {
        if text == "never" {
            return Ok(Act::Never);
        }
        if let Some(&(_, lie)) = Lie::ALL.iter().find(|(name, _)| *name == text) {
            return Ok(Act::Lie(lie));
        }
        let code = text.parse().ok().filter(|&code| code < 0);
        code.map(Act::Code).ok_or("ACT is a negative VkResult, 'never' or the name of a lie")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.function.name(), self.call)?;
        match self.act {
            Act::Code(code) => write!(f, "{code}")?,
            Act::Never => f.write_str("never")?,
            Act::Lie(lie) => {
                let named = Lie::ALL.iter().find(|(_, known)| *known == lie);
                f.write_str(named.map_or("", |(name, _)| name))?;
            }
        }
        f.write_str(match self.lasting {
            Lasting::Once => "",
            Lasting::Sticky => ":sticky",
            Lasting::Device => ":device",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_as_they_are_read() {
        for text in [
            "AllocateMemory:1:-2",
            "QueueSubmit:3:-4:device",
            "QueueSubmit:2:never:device",
            "WaitSemaphores:12:never:sticky",
            "DeviceWaitIdle:1:never",
            "AllocateMemory:4:never",
            "CmdDispatch:1:half:sticky",
            "CreateShaderModule:2:minus",
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        let two = rules("CreateFence:1:-1,CreateBuffer:2:-2:sticky").unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(two[1].function, Function::CreateBuffer);
        assert_eq!(rules("").unwrap(), []);
    }

    #[test]
    fn whatever_makes_no_sense_is_refused() {
        for (text, why) in [
            ("QueueSubmit", "expected Function:N:ACT"),
            ("QueueSubmit:1:-4:often", "expected Function:N:ACT"),
            ("vkQueueSubmit:1:-4", "no such function"),
            ("QueueSubmit:0:-4", "counted from 1"),
            ("QueueSubmit:x:-4", "counted from 1"),
            ("QueueSubmit:1:4", "negative VkResult"),
            ("QueueSubmit:1:lie", "negative VkResult"),
            ("CmdDispatch:1:-4", "cannot do that"),
            ("CreateBuffer:1:skip", "cannot do that"),
            ("CreateFence:1:never", "cannot do that"),
            ("CreateBuffer:1:never:sticky", "cannot do that"),
            ("CreateBuffer:1:-2:device", "cannot do that"),
            ("QueueSubmit:1:never", "cannot do that"),
            ("CmdFillBuffer:1:half", "cannot do that"),
        ] {
            let error = text.parse::<Rule>().unwrap_err();
            assert!(error.starts_with(&format!("fault '{text}': ")), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }
}
