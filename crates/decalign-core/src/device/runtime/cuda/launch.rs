//! A launch: the addresses of its arguments, and the driver's call.

use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute_enum as Allowed;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::{CudaDevice, Storage, StorageRef, Tensor};

use super::address::{address, failed, input, output, updated};
use super::compile::load;
use crate::Result;
use crate::device::launch::{Argument, Launch, Value, elsewhere};
use crate::device::memory::Block;

pub(super) fn run(launch: Launch, device: &CudaDevice) -> Result<()> {
    let function = load(launch.program, launch.function, device)?;
    let stream = device.cuda_stream();
    let mut arguments = launch.arguments;
    // First of all: this locks memory for a moment, parts of which may be read by the same kernel.
    let updates: Vec<Option<u64>> = arguments
        .iter()
        .map(|a| match a {
            Argument::Update(x) => updated(x, &stream).map(Some),
            _ => Ok(None),
        })
        .collect::<Result<_>>()?;
    // Tensors of their own beside the arguments, of which the outputs are borrowed mutably.
    let tensors: Vec<Option<Tensor>> = arguments
        .iter()
        .map(|a| match a {
            Argument::Input(x) => Some(x.clone()),
            _ => None,
        })
        .collect();
    let guards: Vec<Option<StorageRef>> = tensors
        .iter()
        .map(|x| x.as_ref().map(|x| x.storage_and_layout().0))
        .collect();
    let mut pointers = Vec::with_capacity(arguments.len());
    let mut in_use = Vec::with_capacity(arguments.len());
    let mut values = Vec::with_capacity(arguments.len());
    for ((guard, argument), update) in guards.iter().zip(&mut arguments).zip(updates) {
        values.push(match argument {
            Argument::Value(value) => Some(*value),
            _ => None,
        });
        let place = match (guard.as_deref(), argument) {
            (Some(Storage::Cuda(x)), Argument::Input(tensor)) => {
                let start = tensor.layout().start_offset();
                Some(input(x, start, &stream)?)
            }
            (_, Argument::Output(memory)) => match memory.block() {
                Block::Own(Storage::Cuda(x)) => Some(output(x, &stream)?),
                Block::Piece(piece) => {
                    pointers.push(address(piece, &stream)?);
                    continue;
                }
                Block::Own(_) => return Err(elsewhere()),
            },
            (_, Argument::Update(_)) => {
                pointers.push(update.unwrap_or(0));
                continue;
            }
            (_, Argument::Value(_) | Argument::Nothing { .. }) => None,
            _ => return Err(elsewhere()),
        };
        pointers.push(place.as_ref().map_or(0, |(pointer, _)| *pointer));
        in_use.extend(place.map(|(_, sync)| sync));
    }
    let mut builder = stream.launch_builder(&function);
    for (pointer, value) in pointers.iter().zip(&values) {
        match value {
            None => builder.arg(pointer),
            Some(Value::F32(v)) => builder.arg(v),
            Some(Value::F64(v)) => builder.arg(v),
            Some(Value::U32(v)) => builder.arg(v),
            Some(Value::U64(v)) => builder.arg(v),
        };
    }
    let shape = LaunchConfig {
        grid_dim: (launch.groups as u32, 1, 1),
        block_dim: (launch.program.group_size() as u32, 1, 1),
        shared_mem_bytes: launch.large as u32,
    };
    if launch.large > 0 {
        let most = Allowed::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function
            .set_attribute(most, launch.large as i32)
            .map_err(failed)?;
    }
    // SAFETY: the count of arguments was held against the source in `load`, and their memory lives until `in_use` goes;
    // the emulator runs the same source with the same host code and checks types and every access.
    unsafe { builder.launch(shape) }.map_err(failed)?;
    drop(in_use);
    Ok(())
}
