//! However the command is ended, its output is whole or not there.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::*;

/// How the command can be ended, and by which name `kill` knows it.
const ENDS: [(&str, i32); 4] = [("KILL", 9), ("TERM", 15), ("INT", 2), ("HUP", 1)];

/// Far more than it takes, on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(20);

/// The command with no signal ignored, also where the tests are run under nohup or in the background.
fn listening() -> Command {
    let program = env!("CARGO_BIN_EXE_kullback");
    let reset = ["--default-signal", program];
    match Command::new("env").args(reset).arg("--version").stdout(Stdio::null()).status() {
        Ok(status) if status.success() => {
            let mut command = Command::new("env");
            command.args(reset);
            command
        }
        // Of systems whose `env` cannot do that.
        _ => Command::new(program),
    }
}

/// Begins `kullback rows` on the files of a folder.
fn begin(folder: &TempDir, options: &[&str]) -> Child {
    let mut command = listening();
    let command = command.current_dir(folder).args(["rows", "p.npy", "q.npy", "-o", "out.npy"]);
    let command = command.args(["--mass", "generalized"]).args(options);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn kill(child: &Child, signal: &str) {
    let signal = format!("-{signal}");
    assert!(
        Command::new("kill").args([signal, child.id().to_string()]).status().unwrap().success()
    );
}

/// What a shell would show.
fn status(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap()
}

/// Waits for a command that computes: its signals are heard, and its files are open.
fn wait_until_it_computes(child: &Child) {
    let start = Instant::now();
    let threads = format!("/proc/{}/task", child.id());
    let reads = |folder: fs::ReadDir| {
        let names = folder.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        names.flatten().any(|name| name == "kullback-read\n")
    };
    while cfg!(target_os = "linux") && !fs::read_dir(&threads).is_ok_and(reads) {
        assert!(start.elapsed() < SOON);
        sleep(Duration::from_millis(1));
    }
    sleep(Duration::from_millis(300));
}

#[test]
fn signals_have_their_statuses_and_leave_nothing() {
    // Minutes of work.
    let folder = zeros(1 << 28, 64, "False");
    for ((signal, number), said) in ENDS[1..].iter().zip(["terminated", "interrupted", "hung up"]) {
        for existing in [false, true] {
            let out = folder.path().join("out.npy");
            let _ = fs::remove_file(&out);
            if existing {
                fs::write(&out, "kept").unwrap();
            }
            let child = begin(&folder, &["--backend", "cpu"]);
            wait_until_it_computes(&child);
            kill(&child, signal);
            let output = child.wait_with_output().unwrap();
            assert_eq!(message(&output, 128 + number), format!("kullback: {said}"));
            let kept = existing.then(|| b"kept".to_vec());
            assert_eq!(fs::read(&out).ok(), kept);
            assert_eq!(names(&folder).len(), 2 + usize::from(existing));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn under_nohup_it_outlives_its_terminal() {
    let folder = zeros(1 << 28, 64, "False");
    let program = env!("CARGO_BIN_EXE_kullback");
    let script =
        format!("trap '' HUP; exec '{program}' rows p.npy q.npy --mass generalized --backend cpu");
    let mut command = Command::new("sh");
    let command = command.current_dir(&folder).args(["-c", &script]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until_it_computes(&child);
    kill(&child, "HUP");
    sleep(Duration::from_millis(300));
    kill(&child, "TERM");
    assert_eq!(message(&child.wait_with_output().unwrap(), 143), "kullback: terminated");
}

/// Nobody reads its messages any more, and there is no room for another.
#[test]
fn a_full_pipe_holds_nobody_back() {
    use std::io::Write;
    let folder = zeros(1 << 28, 64, "False");
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    std::thread::spawn(move || while filler.write_all(&[b'x'; 4096]).is_ok() {});
    sleep(Duration::from_millis(100));
    let mut command = Command::new(env!("CARGO_BIN_EXE_kullback"));
    command.current_dir(&folder).args(["rows", "p.npy", "q.npy", "--backend", "cpu"]);
    let mut child = command.args(["--mass", "generalized"]).stderr(writer).spawn().unwrap();
    wait_until_it_computes(&child);
    kill(&child, "TERM");
    assert_eq!(status(child.wait().unwrap()), 143);
}

/// Numbers that look random and are the same every time (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }
}

/// Something to be ended, and what comes of it when it is not.
struct Job {
    folder: TempDir,
    options: Vec<&'static str>,
    whole: Vec<u8>,
    takes: Duration,
}

impl Job {
    fn new(folder: TempDir, options: Vec<&'static str>) -> Job {
        let start = Instant::now();
        let output = begin(&folder, &options).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        println!("{options:?} takes {:?}", start.elapsed());
        let whole = fs::read(folder.path().join("out.npy")).unwrap();
        Job { folder, options, whole, takes: start.elapsed() }
    }

    /// Ends it at some instant, and tells how long it then lived.
    fn end(&self, random: &mut Random) -> Duration {
        let (signal, number) = ENDS[random.below(4) as usize];
        let instant = Duration::from_micros(random.below(self.takes.as_micros() as u64 * 6 / 5));
        let out = self.folder.path().join("out.npy");
        let before = (random.below(2) == 0).then(|| b"kept".to_vec());
        let _ = fs::remove_file(&out);
        if let Some(before) = &before {
            fs::write(&out, before).unwrap();
        }

        let child = begin(&self.folder, &self.options);
        sleep(instant);
        let killed = Instant::now();
        kill(&child, signal);
        let output = child.wait_with_output().unwrap();
        let lived = killed.elapsed();

        let what = format!("{signal} after {instant:?}: {output:?}");
        let status = status(output.status);
        let after = fs::read(&out).ok();
        assert!(status == 0 || status == 128 + number, "{what}");
        assert!(after.as_ref() == Some(&self.whole) || (status != 0 && after == before), "{what}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{what}");
        for name in names(&self.folder) {
            if !["p.npy", "q.npy", "out.npy"].contains(&&*name) {
                // What cannot be heard can leave a file, but not under the name of the output.
                assert!(signal == "KILL" && name.starts_with(".tmp"), "{name}: {what}");
                fs::remove_file(self.folder.path().join(name)).unwrap();
            }
        }
        assert!(lived < SOON, "{lived:?}: {what}");
        lived
    }
}

/// `KULLBACK_KILLS=200 cargo test --test command random` for more of them.
#[test]
fn no_random_end_leaves_half_an_output() {
    let kills = std::env::var("KULLBACK_KILLS").map_or(40, |kills| kills.parse().unwrap());
    let side = |by: u32| {
        let value = |at: u32| (at.wrapping_mul(by) >> 8) as f32;
        f32_npy(1 << 14, 64, &(0..1 << 20).map(value).collect::<Vec<_>>())
    };
    let many_parts = ["--backend", "cpu", "--memory-limit", "256KiB"];
    let mut jobs = vec![
        Job::new(folder(&side(2_654_435_761), &side(0x9e37_79b1)), many_parts.into()),
        // One part, and one row in it.
        Job::new(zeros(1, 1 << 23, "False"), vec!["--backend", "cpu"]),
    ];
    if BACKENDS.contains(&"gpu") {
        let folder = folder(&side(2_654_435_761), &side(0x9e37_79b1));
        jobs.push(Job::new(folder, vec!["--backend", "gpu"]));
    }
    let mut random = Random(5);
    let slowest = (0..kills).map(|at| jobs[at % jobs.len()].end(&mut random)).max();
    println!("{kills} ends, the slowest after {slowest:?}");
}
