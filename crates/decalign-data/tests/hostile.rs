//! Pickles that lie: one clear error each, within 100 ms and 64 MB; and thousands of mutations.
//!
//! One test, so that nothing else allocates meanwhile.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use cpu_time::ProcessTime;
use decalign_data::pickle::{Item, Pickle};
use decalign_data::{Dataset, OutputFormat, Precision, read_npy};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What reading may take, in time and in memory beyond the bytes themselves.
const TIME: Duration = Duration::from_millis(100);
const MEGABYTES: f32 = 64.0;

/// Runs `f` and holds it to the bounds. Time is that of the processor: the machine may be busy.
fn bounded<T>(what: &str, f: impl Fn() -> T) -> T {
    let before = MEMORY.current_usage_as_mb();
    MEMORY.reset_peak_usage();
    let start = ProcessTime::now();
    let result = f();
    let taken = start.elapsed();
    let memory = MEMORY.peak_usage_as_mb() - before;
    assert!(taken <= TIME, "{what}: {taken:?}");
    assert!(memory <= MEGABYTES, "{what}: {memory} MB");
    result
}

fn refused(what: &str, bytes: &[u8], expected: &str) {
    let message = bounded(what, || {
        Pickle::read(bytes.to_vec(), "f").unwrap_err().to_string()
    });
    assert!(
        message.starts_with("f: not a pickle of data: byte "),
        "{what}: {message}"
    );
    assert!(message.contains(expected), "{what}: {message}");
    assert!(
        !message.contains('\n') && message.len() < 300,
        "{what}: {message}"
    );
}

fn global(name: &str) -> Vec<u8> {
    [
        b"c".as_slice(),
        name.replacen('.', "\n", 1).as_bytes(),
        b"\n",
    ]
    .concat()
}

fn hostile() {
    refused("nothing", b"", "the file ends");
    refused("no end", b"\x80\x04N", "the file ends");
    for name in [
        "os.system",
        "posix.system",
        "builtins.eval",
        "builtins.getattr",
        "subprocess.Popen",
        "numpy.load",
        "torch.Tensor",
    ] {
        let code = [&global(name), b"(S'true'\ntR.".as_slice()].concat();
        refused(name, &code, &format!("asks for {name:?}"));
        let (module, last) = name.split_once('.').unwrap();
        let mut code = b"\x80\x04\x8c".to_vec();
        code.push(module.len() as u8);
        code.extend(module.as_bytes());
        code.push(0x8c);
        code.push(last.len() as u8);
        code.extend(last.as_bytes());
        code.extend(b"\x93.");
        refused(name, &code, &format!("asks for {name:?}"));
    }
    // The offset is that of the opcode.
    refused("offset", b"N0cos\nsystem\n.", "byte 2: asks");
    refused("class", b"(ios\nsystem\n.", "asks for an object of a class");
    refused("persistent", b"P123\n.", "outside of the file");
    refused("extension", b"\x82\x01.", "registry");
    refused("buffer", b"\x97.", "a buffer outside");
    refused("opcode", b"\xff.", "opcode 0xff");
    refused("protocol", b"\x80\x06N.", "protocol 6");
    // Lengths that lie.
    refused(
        "string",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",
        "the file ends after 11 bytes",
    );
    refused("bytes", b"B\xff\xff\xff\xff.", "the file ends");
    refused(
        "bytearray",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\xff.",
        "the file ends",
    );
    refused(
        "frame",
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xffN.",
        "a frame",
    );
    refused("long", b"\x8b\xff\xff\xff\x7f.", "the file ends");
    refused(
        "long2",
        &[b"\x8a\xff".as_slice(), &[1; 255], b"."].concat(),
        "more than 64 bits",
    );
    refused(
        "decimal",
        b"I99999999999999999999999\n.",
        "more than 64 bits",
    );
    refused(
        "digits",
        &[b"L".as_slice(), &[b'9'; 300_000], b"L\n."].concat(),
        "64 bits",
    );
    refused("memo", b"h\x05.", "refers to value 5");
    refused("stack", b"0.", "the stack is empty");
    refused("mark", b"t.", "no mark");
    refused("left", b"NN.", "left over");
    refused("append", b"NNa.", "no list");
    refused("odd", b"}(Nu.", "a key without a value");
    // Values that hold themselves.
    refused("list of itself", b"]q\x00h\x00a.", "part of itself");
    refused(
        "list of itself, twice",
        b"]q\x00(h\x00h\x00e.",
        "byte 0: a value that is part of itself",
    );
    refused("dict of itself", b"}q\x00Nh\x00s.", "part of itself");
    refused("tuple in list", b"]q\x00h\x00\x85a.", "part of itself");
    // Depth, breadth, memo.
    for (what, code) in [
        ("(", b'('),
        ("]", b']'),
        ("}", b'}'),
        ("N", b'N'),
        ("memo", 0x94),
    ] {
        let mut many = vec![b'N'];
        many.extend(std::iter::repeat_n(code, 1_000_000));
        bounded(what, || Pickle::read(many.clone(), "f").unwrap_err());
    }
    let depth = 100_000;
    let nested = [vec![b']'; depth], vec![b'a'; depth - 1], vec![b'.']].concat();
    bounded("a deep list", || Pickle::read(nested.clone(), "f").unwrap());
    let tuples = [vec![b')'], vec![0x85; depth], vec![b'.']].concat();
    bounded("a deep tuple", || {
        Pickle::read(tuples.clone(), "f").unwrap()
    });
    // A list of two of a list of two of ... 2^60 leaves: shared, not copied.
    let mut bomb = b"\x80\x04]\x94".to_vec();
    (0..60u8).for_each(|i| bomb.extend([b']', 0x94, b'(', b'h', i, b'h', i, b'e']));
    bomb.push(b'.');
    refused("left over lists", &bomb, "left over");
    let mut bomb = b"\x80\x04N\x94".to_vec();
    (0..60u8).for_each(|i| bomb.extend([b'0', b'h', i, b'h', i, 0x86, 0x94]));
    bomb.push(b'.');
    let pickle = bounded("a bomb", || Pickle::read(bomb.clone(), "f").unwrap());
    assert!(matches!(pickle.root(), Item::List(list) if list.len() == 2));
    // Arrays that lie about their size.
    let array = |shape: &str, bytes: &str| {
        let code = format!(
            "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n({shape}tcnumpy\ndtype\n(S'f4'\nI00\nI01\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'{bytes}'\ntb."
        );
        code.into_bytes()
    };
    Pickle::read(array("I1\n", "abcd"), "f").unwrap();
    refused(
        "array",
        &array("I1000000000\nI1000000000\n", "abcd"),
        "an array [1000000000, 1000000000]",
    );
    refused(
        "overflow",
        &array("I4611686018427387904\nI4\n", ""),
        "an array",
    );
    refused(
        "overflow beside 0",
        &array("I0\nI4611686018427387904\nI4\n", ""),
        "an array",
    );
    refused("negative", &array("I-1\n", "abcd"), "a shape that is none");
    refused(
        "dimensions",
        &array(&"I1\n".repeat(100), "abcd"),
        "100 dimensions",
    );
    let short = array("I2\n", "\\x00\\x00\\x00\\x00");
    bounded("bytes spelled out", || {
        let pickle = Pickle::read(short.clone(), "f").unwrap();
        let Item::Array(array) = pickle.root() else {
            panic!()
        };
        assert!(
            array
                .read()
                .unwrap_err()
                .to_string()
                .contains("an array [2] of <f4 on 4 bytes")
        );
    });
    // One string of 1 MB as the text of 10,000 samples.
    let mut shared =
        b"\x80\x04}(X\x05\x00\x00\x00train}(X\x08\x00\x00\x00raw_text](X\x00\x00\x10\x00".to_vec();
    shared.extend(vec![b'x'; 1 << 20]);
    shared.push(0x94);
    shared.extend(b"h\x00".repeat(10_000));
    shared.extend(b"eX\x04\x00\x00\x00text](");
    shared.extend(b"](K\x01e".repeat(10_001));
    shared.extend(b"euu.");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shared.pkl");
    std::fs::write(&file, shared).unwrap();
    let message = Dataset::open(&file).unwrap_err().to_string();
    assert!(
        message.contains("train.raw_text: strings of more than 64 MB"),
        "{message}"
    );
}

/// A generator of its own, so that the test is the same everywhere.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

fn mutate(seed: &[u8], draws: &mut Draws) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + draws.below(4) {
        let at = draws.below(bytes.len());
        match draws.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, draws.below(256) as u8),
            2 => {
                bytes.remove(at);
            }
            3 => {
                let (from, length) = (draws.below(bytes.len()), draws.below(40));
                let piece = bytes[from..bytes.len().min(from + length)].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF, b'.', b'(', b'R'][draws.below(8)],
            _ => bytes[at] = draws.below(256) as u8,
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

fn mutations() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pickle");
    let folder = tempfile::tempdir().unwrap();
    let mut files: Vec<_> = std::fs::read_dir(&fixtures)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    // What this crate writes itself is damaged, too.
    let whole = Dataset::open(fixtures.join("unaligned-protocol4.pkl")).unwrap();
    for (name, target) in [
        ("own.safetensors", OutputFormat::Container),
        ("own.npz", OutputFormat::Npz),
        ("own.pkl", OutputFormat::Pickle),
    ] {
        let file = folder.path().join(name);
        whole
            .write(&file, target, Precision::F32, &mut |_, _| {})
            .unwrap();
        files.push(file);
    }
    let mut draws = Draws(11);
    let (mut read, mut refused) = (0, 0);
    for path in files
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e != "json"))
    {
        let seed = std::fs::read(path).unwrap();
        let extension = path.extension().unwrap().to_str().unwrap().to_owned();
        let place = folder.path().join(format!("mutant.{extension}"));
        for _ in 0..300 {
            let bytes = mutate(&seed, &mut draws);
            std::fs::write(&place, &bytes).unwrap();
            let done = bounded(&place.display().to_string(), || {
                Dataset::open(&place).and_then(|data| {
                    data.modalities().iter().for_each(|m| {
                        m.features();
                    });
                    data.inspect()
                })
            });
            match done {
                Ok(_) => read += 1,
                Err(error) => {
                    let message = error.to_string();
                    assert!(
                        message.contains("mutant") && !message.contains('\n'),
                        "{message}"
                    );
                    refused += 1;
                }
            }
        }
    }
    // Mutants of numbers stay readable, mutants of structure do not: both happen.
    assert!(read > 100 && refused > 1000, "{read} {refused}");
    let seed = b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2, 1), }      \nabcdabcdabcdabcdabcdabcd";
    for _ in 0..3000 {
        let bytes = mutate(seed, &mut draws);
        let _ = bounded("npy", || {
            read_npy(bytes.clone()).map(|array| array.to_f64())
        });
    }
}

#[test]
fn nothing_a_file_says_costs_more_than_it_may() {
    hostile();
    mutations();
}
