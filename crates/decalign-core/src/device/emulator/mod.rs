//! Kernels on the CPU, every access checked, without a device.
//!
//! The system's C++ compiler turns a [`Program`](super::Program) into a process that runs launches: one fibre a lane,
//! in an order that a seed permutes. It finds accesses out of bounds, elements that two lanes
//! touch without a barrier between, shared memory that is read before it is written, and lanes that do not come to
//! the same barrier. It is for tests: a launch takes about a thousand times as long as on a device.

mod process;

use std::cell::{Cell, RefCell};
use std::env;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Shape, Storage, Tensor};
use half::{bf16, f16};

use super::launch::{Access, Argument, Launch, Value};
use crate::{Elements, Error, Real, Result, agree};
use process::Server;

/// Runs launches with the lanes in an order of this seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulator {
    seed: u64,
}

thread_local! {
    static LAUNCHES: Cell<usize> = const { Cell::new(0) };
    static CURRENT: RefCell<Option<Emulator>> = const { RefCell::new(None) };
}

/// Runs `f` with CPU tensors taken for tensors of a device, so that operations take the ways they take there.
pub fn emulated<T>(seed: u64, f: impl FnOnce() -> T) -> T {
    within(Some(Emulator { seed }), f)
}

/// Holds an operation in the emulator against itself on the CPU, values and gradients, as [`agree`] does, and against
/// itself with the lanes in another order, bit for bit; and on a CUDA device against the CPU, where there is one. Where there is
/// neither a C++ compiler nor a device it says so and checks nothing.
///
/// # Errors
/// As [`agree`]; and when the operation starts no kernel, or the order of lanes changes a bit.
pub fn holds(
    inputs: &[Tensor],
    tolerances: (f64, f64),
    f: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<()> {
    on_device(inputs, tolerances, &f)?;
    if !available() {
        return Ok(());
    }
    let before = LAUNCHES.get();
    let orders = [1, 2].map(|seed| bits(&emulated(seed, || f(inputs))?));
    let [first, second]: [Result<Vec<f64>>; 2] = orders;
    let (first, second) = (first?, second?);
    if LAUNCHES.get() == before {
        return Err(Error::value(
            "launches",
            0,
            "the operation must use its kernels",
        ));
    }
    let apart = first
        .iter()
        .zip(&second)
        .position(|(a, b)| a.to_bits() != b.to_bits());
    if let Some(i) = apart {
        let remedy = format!("with the lanes in another order it is {}", second[i]);
        return Err(Error::value(
            format!("output element {i}"),
            first[i],
            remedy,
        ));
    }
    agree(inputs, tolerances, |x| emulated(3, || f(x)), &f)
}

/// The same on the CUDA device of this machine; says loudly that it is skipped where there is none.
fn on_device(
    inputs: &[Tensor],
    tolerances: (f64, f64),
    f: &impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<()> {
    let Some(device) = crate::device::available().filter(Device::is_cuda) else {
        eprintln!("skipped: no CUDA device");
        return Ok(());
    };
    let moved = |x: &[Tensor], device: &Device| -> Result<Vec<Tensor>> {
        Ok(x.iter()
            .map(|x| x.to_device(device))
            .collect::<candle_core::Result<_>>()?)
    };
    let there = |x: &[Tensor]| moved(&f(&moved(x, &device)?)?, &Device::Cpu);
    let again = |x: &[Tensor]| there(x).and_then(|y| bits(&y));
    let (first, second) = (again(inputs)?, again(inputs)?);
    if let Some(i) = (0..first.len()).find(|i| first[*i].to_bits() != second[*i].to_bits()) {
        let remedy = format!("a second run on the device gives {}", second[i]);
        return Err(Error::value(
            format!("output element {i}"),
            first[i],
            remedy,
        ));
    }
    agree(inputs, tolerances, there, f)
}

/// All numbers of some tensors.
fn bits(x: &[Tensor]) -> Result<Vec<f64>> {
    let each = x
        .iter()
        .map(|x| x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>());
    Ok(each.collect::<candle_core::Result<Vec<_>>>()?.concat())
}

/// Whether there is a C++ compiler; says loudly that tests are skipped where there is none.
pub fn available() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let found = Command::new(compiler())
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !found {
            eprintln!(
                "skipped: no C++ compiler `{}`; install one or set CXX",
                compiler()
            );
        }
        found
    })
}

pub(super) fn current() -> Option<Emulator> {
    CURRENT.with_borrow(Clone::clone)
}

pub(super) fn within<T>(emulator: Option<Emulator>, f: impl FnOnce() -> T) -> T {
    /// Puts back what was before, on a panic too.
    struct Before(Option<Emulator>);
    impl Drop for Before {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _before = Before(CURRENT.replace(emulator));
    f()
}

fn compiler() -> String {
    env::var("CXX").unwrap_or_else(|_| "c++".to_owned())
}

/// Memory that is not a number where no kernel writes it.
pub(super) fn empty(dtype: DType, shape: &Shape) -> CpuStorage {
    let n = shape.elem_count();
    match dtype {
        DType::F64 => CpuStorage::F64(vec![f64::NAN; n]),
        DType::U32 => CpuStorage::U32(vec![u32::MAX; n]),
        DType::BF16 => CpuStorage::BF16(vec![bf16::NAN; n]),
        DType::F16 => CpuStorage::F16(vec![f16::NAN; n]),
        _ => CpuStorage::F32(vec![f32::NAN; n]),
    }
}

/// Memory of zeros.
pub(super) fn zeros(dtype: DType, shape: &Shape) -> CpuStorage {
    let n = shape.elem_count();
    match dtype {
        DType::F64 => CpuStorage::F64(vec![0.0; n]),
        DType::U32 => CpuStorage::U32(vec![0; n]),
        DType::BF16 => CpuStorage::BF16(vec![bf16::ZERO; n]),
        DType::F16 => CpuStorage::F16(vec![f16::ZERO; n]),
        _ => CpuStorage::F32(vec![0.0; n]),
    }
}

impl Emulator {
    pub(super) fn run(&self, launch: Launch) -> Result<()> {
        LAUNCHES.set(LAUNCHES.get() + 1);
        let named = |what: String| {
            let title = format!("{} of {}", launch.function, launch.program.title());
            Error::from(candle_core::Error::Msg(format!("{title}: {what}")))
        };
        let server = Server::of(launch.program).map_err(named)?;
        let mut request = Vec::new();
        request.extend((launch.function.len() as u32).to_le_bytes());
        request.extend(launch.function.as_bytes());
        request.extend(self.seed.to_le_bytes());
        request.extend((launch.groups as u32).to_le_bytes());
        request.extend((launch.program.group_size() as u32).to_le_bytes());
        request.extend((launch.large as u32).to_le_bytes());
        request.extend((launch.arguments.len() as u32).to_le_bytes());
        let mut expected = 0;
        for argument in &launch.arguments {
            expected += write(argument, launch.program.dtype(), &mut request)?;
        }
        let reply = server.ask(&request, expected).map_err(named)?;
        let mut reply = &reply[..];
        for argument in launch.arguments {
            if let Argument::Update(x) = &argument {
                let bytes = x.elem_count() * x.dtype().size_in_bytes();
                let (first, rest) = reply.split_at(bytes.min(reply.len()));
                x.inplace_op1(&Refill(first))?;
                reply = rest;
            }
            if let Argument::Output(memory) = argument {
                match memory.storage_mut() {
                    Some(Storage::Cpu(CpuStorage::F32(x))) => fill(x, &mut reply),
                    Some(Storage::Cpu(CpuStorage::F64(x))) => fill(x, &mut reply),
                    Some(Storage::Cpu(CpuStorage::U32(x))) => {
                        fill_with(x, &mut reply, u32::from_le_bytes);
                    }
                    Some(Storage::Cpu(CpuStorage::BF16(x))) => {
                        fill_with(x, &mut reply, bf16::from_le_bytes);
                    }
                    Some(Storage::Cpu(CpuStorage::F16(x))) => {
                        fill_with(x, &mut reply, f16::from_le_bytes);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Puts what a kernel made of a tensor back into it.
struct Refill<'a>(&'a [u8]);

impl InplaceOp1 for Refill<'_> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("update: the tensor is contiguous")
        };
        let mut bytes = self.0;
        match x {
            CpuStorage::F32(x) => fill(&mut x[start..end], &mut bytes),
            CpuStorage::F64(x) => fill(&mut x[start..end], &mut bytes),
            _ => candle_core::bail!("update: the tensor is f32 or f64"),
        }
        Ok(())
    }
}

/// Numbers as bytes.
trait Bytes: Copy {
    const CODE: u8;
    fn extend(x: &[Self], to: &mut Vec<u8>);
}

macro_rules! bytes {
    ($($t:ty, $code:expr;)*) => {$(
        impl Bytes for $t {
            const CODE: u8 = $code;
            fn extend(x: &[Self], to: &mut Vec<u8>) {
                x.iter().for_each(|v| to.extend(v.to_le_bytes()));
            }
        }
    )*};
}

bytes! { f32, 0; f64, 1; u32, 2; u64, 3; u8, 5; bf16, 6; f16, 6; }

/// Appends an argument; the bytes that come back of it.
fn write(argument: &Argument, dtype: DType, to: &mut Vec<u8>) -> Result<usize> {
    fn push<T: Bytes>(kind: u8, x: &[T], to: &mut Vec<u8>) -> usize {
        let bytes = size_of_val(x);
        to.extend([kind, T::CODE]);
        to.extend((bytes as u64).to_le_bytes());
        T::extend(x, to);
        if kind == 1 || kind == 3 { bytes } else { 0 }
    }
    Ok(match argument {
        Argument::Nothing { access } => {
            let kind = match access {
                Access::Read => 0,
                Access::Write => 1,
                Access::Update => 3,
            };
            match dtype {
                DType::F64 => push::<f64>(kind, &[], to),
                _ => push::<f32>(kind, &[], to),
            }
        }
        Argument::Value(Value::F32(v)) => push(2, &[*v], to),
        Argument::Value(Value::F64(v)) => push(2, &[*v], to),
        Argument::Value(Value::U32(v)) => push(2, &[*v], to),
        Argument::Value(Value::U64(v)) => push(2, &[*v], to),
        Argument::Input(x) => match x.dtype() {
            DType::F32 => push(0, &Elements::<f32>::new(x)?, to),
            DType::F64 => push(0, &Elements::<f64>::new(x)?, to),
            DType::U32 => push(0, &x.flatten_all()?.to_vec1::<u32>()?, to),
            DType::U8 => push(0, &x.flatten_all()?.to_vec1::<u8>()?, to),
            DType::BF16 => push(0, &x.flatten_all()?.to_vec1::<bf16>()?, to),
            DType::F16 => push(0, &x.flatten_all()?.to_vec1::<f16>()?, to),
            other => {
                let expected = "f32, f64, u32, u8, bf16 or f16";
                return Err(Error::tensor("input", expected, other));
            }
        },
        Argument::Update(x) => match x.dtype() {
            DType::F32 => push(3, &Elements::<f32>::new(x)?, to),
            DType::F64 => push(3, &Elements::<f64>::new(x)?, to),
            other => return Err(Error::tensor("tensor to update", "f32 or f64", other)),
        },
        Argument::Output(memory) => match memory.storage() {
            Some(Storage::Cpu(CpuStorage::F32(x))) => push(1, x, to),
            Some(Storage::Cpu(CpuStorage::F64(x))) => push(1, x, to),
            Some(Storage::Cpu(CpuStorage::U32(x))) => push(1, x, to),
            Some(Storage::Cpu(CpuStorage::BF16(x))) => push(1, x, to),
            Some(Storage::Cpu(CpuStorage::F16(x))) => push(1, x, to),
            _ => {
                let expected = "f32, f64, u32, bf16 or f16";
                return Err(Error::tensor("output", expected, memory.dtype()));
            }
        },
    })
}

fn fill_with<T: Copy, const N: usize>(x: &mut [T], from: &mut &[u8], number: fn([u8; N]) -> T) {
    for v in x {
        if let Some((first, rest)) = from.split_first_chunk::<N>() {
            (*v, *from) = (number(*first), rest);
        }
    }
}

fn fill<T: Real>(x: &mut [T], from: &mut &[u8]) {
    match size_of::<T>() {
        4 => fill_with(x, from, |b| T::of(f64::from(f32::from_le_bytes(b)))),
        _ => fill_with(x, from, |b| T::of(f64::from_le_bytes(b))),
    }
}
