//! The runtime of a device that this program is built without.

use candle_core::{DType, Device, Shape};

use super::Runtime;
use crate::Result;
use crate::device::launch::Launch;
use crate::device::memory::Block;

/// Has no values, so that code which runs on it compiles and is never reached.
#[derive(Clone)]
pub(in crate::device) enum Dummy {}

impl Runtime for Dummy {
    fn of(_: &Device) -> Option<Self> {
        None
    }

    fn open(_: usize) -> candle_core::Result<Device> {
        candle_core::bail!("this program was built without this device")
    }

    fn device(&self) -> Device {
        match *self {}
    }

    fn empty(&self, _: DType, _: &Shape) -> Result<Block> {
        match *self {}
    }

    fn zeros(&self, _: DType, _: &Shape) -> Result<Block> {
        match *self {}
    }

    fn launch(&self, _: Launch) -> Result<()> {
        match *self {}
    }

    fn has_tables(&self) -> bool {
        match *self {}
    }

    fn largest_shared(&self) -> Result<usize> {
        match *self {}
    }
}
