"""Compiles CUDA sources to PTX with NVRTC: nvrtc.py LIBRARY ARCHITECTURE FOLDER, every .cu in it."""

import ctypes
import pathlib
import sys


def main(library, architecture, folder):
    # It looks for its other half by name only.
    for other in pathlib.Path(library).parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(other), mode=ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(library)
    failed = 0
    for source in sorted(pathlib.Path(folder).glob("*.cu")):
        program = ctypes.c_void_p()
        text = source.read_bytes()
        nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, source.name.encode(), 0, None, None)
        # The options of decalign_core::device.
        options = [f"--gpu-architecture={architecture}", "--std=c++17", "--fmad=true"]
        given = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        status = nvrtc.nvrtcCompileProgram(program, len(options), given)
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        if log.value.strip():
            print(f"{source.name}:\n{log.value.decode()}", file=sys.stderr)
        if status == 0:
            nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
            ptx = ctypes.create_string_buffer(size.value)
            nvrtc.nvrtcGetPTX(program, ptx)
            source.with_suffix(f".{architecture}.ptx").write_bytes(ptx.value)
        failed += status != 0
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    sys.exit(f"{failed} sources do not compile" if failed else 0)


main(*sys.argv[1:])
