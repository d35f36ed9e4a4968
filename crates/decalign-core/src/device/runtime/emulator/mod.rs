//! The emulator: kernels on the CPU, a lane a fibre, every access checked.

mod message;
mod process;

use std::cell::Cell;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use candle_core::backend::BackendDevice;
use candle_core::cpu_backend::CpuDevice;
use candle_core::{CpuStorage, DType, Device, Shape, Storage};
use half::{bf16, f16};

use super::Runtime;
use crate::device::launch::{Argument, Launch};
use crate::device::memory::Block;
use crate::device::scope::Scope;
use crate::{Error, Result};
use process::{Server, compiler};

/// Runs launches with the lanes in an order of this seed.
#[derive(Clone)]
pub(in crate::device) struct Emulator {
    seed: u64,
}

thread_local! {
    static LAUNCHES: Cell<usize> = const { Cell::new(0) };
}

/// The launches of this thread so far.
pub(in crate::device) fn launches() -> usize {
    LAUNCHES.get()
}

/// See [`crate::device::emulator::available`].
pub(in crate::device) fn available() -> bool {
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

impl Runtime for Emulator {
    fn of(device: &Device) -> Option<Self> {
        let seed = Scope::current().emulator_seed()?;
        device.is_cpu().then_some(Self { seed })
    }

    fn open(_: usize) -> candle_core::Result<Device> {
        Ok(Device::Cpu)
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    /// Not a number where no kernel writes it.
    fn empty(&self, dtype: DType, shape: &Shape) -> Result<Block> {
        let n = shape.elem_count();
        Ok(Block::Own(Storage::Cpu(match dtype {
            DType::F64 => CpuStorage::F64(vec![f64::NAN; n]),
            DType::U32 => CpuStorage::U32(vec![u32::MAX; n]),
            DType::BF16 => CpuStorage::BF16(vec![bf16::NAN; n]),
            DType::F16 => CpuStorage::F16(vec![f16::NAN; n]),
            _ => CpuStorage::F32(vec![f32::NAN; n]),
        })))
    }

    fn zeros(&self, dtype: DType, shape: &Shape) -> Result<Block> {
        let storage = CpuDevice.zeros_impl(shape, dtype)?;
        Ok(Block::Own(Storage::Cpu(storage)))
    }

    fn launch(&self, launch: Launch) -> Result<()> {
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
        for count in [
            launch.groups,
            launch.program.group_size(),
            launch.large,
            launch.arguments.len(),
        ] {
            request.extend((count as u32).to_le_bytes());
        }
        let (mut expected, mut arguments) = (0, launch.arguments);
        for argument in &mut arguments {
            expected += message::write(argument, launch.program.dtype(), &mut request)?;
        }
        let reply = server.ask(&request, expected).map_err(named)?;
        let mut reply = &reply[..];
        for argument in arguments {
            match argument {
                Argument::Update(x) => {
                    let bytes = x.elem_count() * x.dtype().size_in_bytes();
                    let (first, rest) = reply.split_at(bytes.min(reply.len()));
                    x.inplace_op1(&message::Refill(first))?;
                    reply = rest;
                }
                Argument::Output(memory) => {
                    if let Block::Own(Storage::Cpu(x)) = memory.block() {
                        message::read(x, .., &mut reply)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn has_tables(&self) -> bool {
        true
    }

    fn largest_shared(&self) -> Result<usize> {
        Ok(163 * 1024)
    }
}
