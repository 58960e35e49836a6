//! Where results and messages go: whole or absent, never over an input, and one clear error where
//! they cannot.

use std::io::pipe;

use super::*;

/// Every command that prints.
const PRINTING: [&[&str]; 7] = [
    &["rows", "p.npy", "q.npy", "--backend", "cpu"],
    &["rows", "p.npy", "q.npy", "--backend", "cpu", "--json"],
    &["devices"],
    &["devices", "--json"],
    &["--help"],
    &["rows", "--help"],
    &["--version"],
];

fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kullback"));
    command.current_dir(folder).args(arguments);
    command
}

#[test]
fn a_closed_pipe_is_the_end_and_no_error() {
    let folder = small();
    for arguments in PRINTING {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = command(&folder, arguments).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.lines().all(|line| line.contains("XDG_RUNTIME_DIR")), "{said}");
    }
    // With nobody to hear it, the status is all that is left to say it.
    for arguments in [&["rows", "p.npy", "missing.npy"][..], &["rows", "--color"], &[]] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = command(&folder, arguments).stderr(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_error() {
    let folder = small();
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    for arguments in PRINTING {
        let output = command(&folder, arguments).stdout(full()).output().unwrap();
        assert_eq!(
            message(&output, 1),
            "kullback: cannot write to stdout: No space left on device (os error 28)",
            "{arguments:?}"
        );
    }
    let output = command(&folder, &["rows", "p.npy", "missing.npy"]).stderr(full()).output();
    assert_eq!(output.unwrap().status.code(), Some(2));
    let output = rows(&folder, &["-o", "/dev/full"]);
    assert_eq!(
        message(&output, 1),
        "kullback: /dev/full: is a FIFO, a socket or a device, where a regular file is needed"
    );
}

/// A limit on the size of files takes the place of a small disk: everybody can have one.
#[cfg(unix)]
#[test]
fn no_room_for_the_output_or_the_values_is_one_error() {
    let rows = 10_000;
    let folder = zeros(rows, 1, "False");
    fs::write(folder.path().join("out.npy"), "kept").unwrap();
    let limited = |blocks: usize, options: &str| {
        let program = env!("CARGO_BIN_EXE_kullback");
        let script = format!(
            "ulimit -f {blocks}; exec '{program}' rows p.npy q.npy --mass generalized \
             --backend cpu --memory-limit 16kB {options}"
        );
        Command::new("sh").current_dir(&folder).args(["-c", &script]).output().unwrap()
    };
    // In blocks of 512 or 1,024 bytes, as the shell has it; the values are 40,000 bytes.
    for (blocks, options, want) in [
        (10, "-o out.npy --quiet", "kullback: out.npy: cannot write: "),
        (10, "--json", ": cannot keep a temporary file: "),
    ] {
        let error = message(&limited(blocks, options), 1);
        assert!(error.contains(want) && error.contains("File too large"), "{error}");
        assert_eq!(names(&folder), ["out.npy", "p.npy", "q.npy"]);
        assert_eq!(fs::read(folder.path().join("out.npy")).unwrap(), b"kept");
    }
    assert_eq!(limited(100, "-o out.npy --quiet").status.code(), Some(0));
    assert_eq!(read_f32(&folder.path().join("out.npy")), [0.0; 10_000]);
}

/// Stacks too large for the addresses take the place of a limit on threads, which root has none of.
/// Two fit, and what the third leaves is enough for all else: nothing but a thread is refused.
#[cfg(target_os = "linux")]
#[test]
fn a_system_that_starts_no_threads_is_one_error() {
    let folder = zeros(10_000, 8, "False");
    let limited = |subcommand: &str| {
        let program = env!("CARGO_BIN_EXE_kullback");
        let script = format!(
            "ulimit -v 10000000; exec '{program}' {subcommand} p.npy q.npy --mass generalized \
             --backend cpu --memory-limit 1GB -o out.npy"
        );
        let mut command = Command::new("sh");
        command.env("RUST_MIN_STACK", "4000000000").env("RAYON_NUM_THREADS", "2000");
        command.current_dir(&folder).args(["-c", &script]).output().unwrap()
    };
    for subcommand in ["rows", "matrix"] {
        let error = message(&limited(subcommand), 1);
        assert!(error.starts_with("kullback: no thread can be started: "), "{error}");
        assert_eq!(names(&folder), ["p.npy", "q.npy"]);
    }
}

/// Links may lead two outputs to one file.
#[cfg(unix)]
#[test]
fn no_output_replaces_another() {
    let folder = small();
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
    };
    link("g.p-gradient.npy", "g.npy");
    link("h.p-gradient.npy", "h.q-gradient.npy");
    for (wanted, output, message_of) in [
        ("p", "g.npy", "g.p-gradient.npy: the same file as g.npy"),
        ("both", "h.npy", "h.q-gradient.npy: the same file as h.p-gradient.npy"),
    ] {
        let before = names(&folder);
        let error = message(&rows(&folder, &["--gradient", wanted, "-o", output]), 2);
        assert_eq!(error, format!("kullback: {message_of}"));
        assert_eq!(names(&folder), before);
    }
}

#[test]
fn the_output_is_never_an_input() {
    let folder = small();
    let before = fs::read(folder.path().join("q.npy")).unwrap();
    let mut outputs = vec!["q.npy", "./q.npy", "p.npy"];
    if cfg!(unix) {
        #[cfg(unix)]
        std::os::unix::fs::symlink("q.npy", folder.path().join("link.npy")).unwrap();
        fs::hard_link(folder.path().join("q.npy"), folder.path().join("hard.npy")).unwrap();
        outputs.extend(["link.npy", "hard.npy"]);
    }
    for output in outputs {
        let error = message(&rows(&folder, &["-o", output]), 2);
        assert_eq!(error, format!("kullback: {output}: the output would replace an input"));
    }
    assert_eq!(fs::read(folder.path().join("q.npy")).unwrap(), before);
    let folder_of_tensors = small_safetensors();
    let options = ["-o", "./m.safetensors"];
    let output = rows_of(&folder_of_tensors, "m.safetensors:layer:p", "m.safetensors:q", &options);
    assert!(message(&output, 2).ends_with("the output would replace an input"));
}

#[test]
fn a_place_where_no_file_can_be_is_an_error_at_once() {
    let folder = small();
    fs::create_dir(folder.path().join("there")).unwrap();
    let too_long = "x".repeat(300);
    for (output, want) in [
        ("no/such/folder.npy", "cannot write: "),
        ("there", "is a directory, where a regular file is needed"),
        ("new/", "is the name of a folder, where a regular file is needed"),
        ("p.npy/out.npy", "cannot write: "),
        (&too_long, "cannot write: "),
        #[cfg(target_os = "linux")]
        ("/proc/out.npy", "cannot write: "),
    ] {
        let error = message(&rows(&folder, &["-o", output]), 1);
        assert!(error.starts_with(&format!("kullback: {output}: {want}")), "{error}");
    }
    assert_eq!(names(&folder), ["p.npy", "q.npy", "there"]);
}

#[test]
fn an_output_that_is_there_is_replaced() {
    let folder = small();
    for _ in 0..2 {
        let output = rows(&folder, &["--quiet", "-o", "out.npy"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(read_f32(&folder.path().join("out.npy")).len(), 3);
        assert_eq!(names(&folder), ["out.npy", "p.npy", "q.npy"]);
        fs::write(folder.path().join("out.npy"), vec![b'x'; 100_000]).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn names_are_any_bytes() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let folder = small();
    let name = |bytes: &[u8]| OsString::from_vec(bytes.into());
    let [p, q, out] = [b"p\xff.npy", b"q\n.npy", b"o\x9b.npy"].map(|bytes| name(bytes));
    fs::rename(folder.path().join("p.npy"), folder.path().join(&p)).unwrap();
    fs::rename(folder.path().join("q.npy"), folder.path().join(&q)).unwrap();
    let run = |q: &OsString, options: &[&str]| {
        let mut command = command(&folder, &["rows"]);
        command.args([&p, q]).arg("-o").arg(&out).args(options).output().unwrap()
    };
    for options in [&["--json"][..], &[]] {
        let output = run(&q, options);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(stdout(&output).contains("o\u{fffd}.npy"), "{output:?}");
        assert_eq!(read_f32(&folder.path().join(&out)).len(), 3);
    }
    // What would steer a terminal is escaped, and a message stays one line.
    let error = message(&run(&name(b"\x1b[2J\n\xc2\x9b.npy"), &[]), 2);
    assert!(error.starts_with(r"kullback: \u{1b}[2J\n\u{9b}.npy: cannot open: "), "{error}");
}

/// Also where clap says what is wrong, in colours as on a terminal.
#[cfg(unix)]
#[test]
fn arguments_are_safe_on_a_terminal() {
    use std::os::unix::ffi::OsStrExt;
    let folder = small();
    for (argument, shown) in [
        (&b"\x1b[35mextra.npy"[..], r"\u{1b}[35mextra.npy"),
        (b"a\nb\x07\x7f\xc2\x9b", r"a\nb\u{7}\u{7f}\u{9b}"),
        (b"\xff\x1b[35m", "\u{fffd}\\u{1b}[35m"),
        (b"--base=\x1b[35m", r"\u{1b}[35m"),
        (b"--divergence=\x1b[35m", r"unknown divergence '\u{1b}[35m'"),
    ] {
        let mut command = command(&folder, &["rows", "p.npy", "q.npy"]);
        command.env("CLICOLOR_FORCE", "1").arg(OsStr::from_bytes(argument));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("\x1b[") && said.contains(shown), "{said:?}");
        let steers = ["\x1b[35m", "\x07", "\x7f", "\u{9b}"].iter().any(|code| said.contains(code));
        assert!(!steers, "{said:?}");
    }
}

/// serde_json escapes only what JSON has to have escaped.
#[cfg(unix)]
#[test]
fn names_in_json_are_safe_on_a_terminal() {
    let folder = small();
    let name = "o\u{9b}31m\u{7f}\n.npy";
    for subcommand in ["rows", "matrix"] {
        let arguments = [subcommand, "p.npy", "q.npy", "--backend", "cpu", "--json", "-o", name];
        let text = stdout(&command(&folder, &arguments).output().unwrap());
        assert!(text.lines().all(|line| !line.contains(char::is_control)), "{text:?}");
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["output"], name);
    }
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_read() {
    let folder = small();
    let made = Command::new("mkfifo").arg(folder.path().join("fifo")).status().unwrap();
    assert!(made.success());
    for input in ["fifo", "/dev/null", "/dev/zero"] {
        let error = message(&rows_of(&folder, "p.npy", input, &[]), 2);
        let found = "is a FIFO, a socket or a device, where a regular file is needed";
        assert_eq!(error, format!("kullback: {input}: {found}"));
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    use std::process::Stdio;
    let folder = zeros(1 << 28, 64, "False");
    let options = ["rows", "p.npy", "q.npy", "-o", "out.npy", "--mass", "generalized"];
    let mut command = command(&folder, &[&options[..], &["--backend", "cpu"]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let file = fs::File::options().write(true).open(folder.path().join("q.npy")).unwrap();
    file.set_len(1_000).unwrap();
    assert_eq!(
        message(&child.wait_with_output().unwrap(), 2),
        "kullback: q.npy: has 1000 bytes, where its header calls for 68719476864"
    );
    assert_eq!(names(&folder), ["p.npy", "q.npy"]);
}

/// The numbers of a .npy file of rows, and what its header says of their shape.
fn read_rows(path: &Path, shape: &str) -> Vec<f32> {
    let file = fs::read(path).unwrap();
    let header = String::from_utf8_lossy(&file[10..128]);
    assert!(
        header.contains(&format!("'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"))
    );
    read_f32(path)
}

#[test]
fn gradients_are_written_beside_the_values() {
    let folder = small();
    let options = ["--gradient", "both", "--invalid", "nan", "-o", "out.npy", "--base", "2"];
    let output = rows(&folder, &[&options[..], &["--backend", "cpu"]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let written =
        "written     out.npy\nwritten     out.p-gradient.npy\nwritten     out.q-gradient.npy\n";
    assert!(stdout(&output).ends_with(written), "{output:?}");
    let all = ["out.npy", "out.p-gradient.npy", "out.q-gradient.npy", "p.npy", "q.npy"];
    assert_eq!(names(&folder), all);
    let read = |name: &str| read_rows(&folder.path().join(name), "(3, 2)");
    let (p, q) = (read("out.p-gradient.npy"), read("out.q-gradient.npy"));
    // By hand: ln(p/q) less its mean, and 1 − p/q; of equal rows 0, of infinite ones none.
    let kl = 0.5 * (2.0_f64.ln() + (2.0_f64 / 3.0).ln());
    let bits = std::f64::consts::LN_2;
    for (got, want) in [
        (p[0], (2.0_f64.ln() - kl) / bits),
        (p[1], ((2.0_f64 / 3.0).ln() - kl) / bits),
        (q[0], -1.0 / bits),
        (q[1], 1.0 / 3.0 / bits),
    ] {
        assert!((f64::from(got) - want).abs() < 1e-6, "{got}, not {want}");
    }
    assert_eq!((&p[2..4], &q[2..4]), (&[0.0; 2][..], &[0.0; 2][..]));
    assert!(p[4..].iter().chain(&q[4..]).all(|x| x.is_nan()));
}

/// One row against many, and more rows than the memory holds at a time.
#[test]
fn the_gradient_in_a_single_row_is_the_sum_over_all_rows() {
    let (count, bins) = (1_000, 8);
    let logits = |step: usize, len: usize| -> Vec<f32> {
        (0..len).map(|at| (at * step % 101) as f32 / 25.0).collect()
    };
    let p = logits(37, count * bins);
    let folder = folder(&f32_npy(count, bins, &p), &f32_npy(1, bins, &logits(11, bins)));
    let options = ["--input", "logits", "--gradient", "both", "-o", "out.npy", "--quiet"];
    let mut gradients = Vec::new();
    let backend = if cfg!(feature = "gpu") { "gpu" } else { "cpu" };
    for (backend, limit) in [("cpu", "3kB"), ("cpu", "100MB"), (backend, "100MB")] {
        let more = ["--backend", backend, "--memory-limit", limit];
        let output = rows(&folder, &[&options[..], &more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let of_q = read_rows(&folder.path().join("out.q-gradient.npy"), "(1, 8)");
        let of_p = read_rows(&folder.path().join("out.p-gradient.npy"), "(1000, 8)");
        gradients.push((of_p, of_q));
    }
    assert_eq!(gradients[0].0, gradients[1].0);
    let softmax = |row: &[f32]| {
        let mass: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        row.iter().map(|&x| f64::from(x).exp() / mass).collect::<Vec<_>>()
    };
    let q = softmax(&logits(11, bins));
    for bin in 0..bins {
        let want: f64 = p.chunks(bins).map(|row| q[bin] - softmax(row)[bin]).sum();
        for (_, of_q) in &gradients {
            let got = of_q[bin];
            assert!((f64::from(got) - want).abs() < 1e-4, "{got}, not {want}");
        }
    }
}

#[test]
fn a_gradient_needs_a_place_that_is_no_input() {
    let folder = small();
    let output = rows(&folder, &["--gradient", "q"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--output"), "{output:?}");
    let renamed = folder.path().join("out.q-gradient.npy");
    fs::rename(folder.path().join("q.npy"), renamed).unwrap();
    let options = ["--gradient", "q", "-o", "out.npy"];
    let error = message(&rows_of(&folder, "p.npy", "out.q-gradient.npy", &options), 2);
    assert_eq!(error, "kullback: out.q-gradient.npy: the output would replace an input");
    // An invalid row leaves none of them.
    fs::write(folder.path().join("q.npy"), f32_npy(1, 2, &[0.5, -0.5])).unwrap();
    message(&rows(&folder, &options), 2);
    assert_eq!(names(&folder), ["out.q-gradient.npy", "p.npy", "q.npy"]);
}
