//! numpy's files: both memory orders, both byte orders, every element, and damage.
#![allow(clippy::unwrap_used)]

use decalign_data::array::Array;
use decalign_data::{Dataset, read_npy};
use proptest::prelude::*;

fn npy(descr: &str, fortran: bool, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let dims: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({dims}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn read(descr: &str, shape: &[usize], data: &[u8]) -> Array {
    read_npy(npy(descr, false, shape, data)).unwrap()
}

#[test]
fn every_element_in_either_order() {
    let cases: [(&str, &[u8], f64); 18] = [
        ("|b1", &[1], 1.0),
        ("|i1", &[0xFE], -2.0),
        ("|u1", &[0xFE], 254.0),
        ("<i2", &[0xFE, 0xFF], -2.0),
        (">i2", &[0xFF, 0xFE], -2.0),
        ("<u2", &[1, 2], 513.0),
        (">u2", &[1, 2], 258.0),
        ("<i4", &[0xFE, 0xFF, 0xFF, 0xFF], -2.0),
        (">u4", &[0, 0, 1, 0], 256.0),
        ("<i8", &[2, 0, 0, 0, 0, 0, 0, 0x80], i64::MIN as f64 + 2.0),
        (">i8", &[0, 0, 0, 0, 0, 0, 1, 1], 257.0),
        ("<u8", &[0xFF; 8], u64::MAX as f64),
        ("<f2", &[0, 0x3E], 1.5),
        (">f2", &[0x3E, 0], 1.5),
        ("<f4", &[0, 0, 0xC0, 0x3F], 1.5),
        (">f4", &[0x3F, 0xC0, 0, 0], 1.5),
        ("<f8", &[0, 0, 0, 0, 0, 0, 0xF8, 0x3F], 1.5),
        (">f8", &[0x3F, 0xF8, 0, 0, 0, 0, 0, 0], 1.5),
    ];
    for (descr, data, value) in cases {
        let array = read(descr, &[1], data);
        assert_eq!(array.to_f64().unwrap(), [value], "{descr}");
        assert_eq!(array.to_f32().unwrap(), [value as f32], "{descr}");
        assert_eq!(array.element().to_string(), descr);
    }
    assert_eq!(read("<i8", &[1], &[0xFF; 8]).to_i64().unwrap(), [-1]);
    assert!(read("<u8", &[1], &[0xFF; 8]).to_i64().is_err());
    assert!(read("<f4", &[1], &[0, 0, 0xC0, 0x3F]).to_i64().is_err());
    assert_eq!(
        read("<f4", &[1], &[0, 0, 0x40, 0x40]).to_i64().unwrap(),
        [3]
    );
    assert!(read("<c8", &[1], &[0; 8]).to_f64().is_err());
    let words = read("<U2", &[2], b"a\0\0\0b\0\0\0c\0\0\0\0\0\0\0");
    assert_eq!(words.to_strings().unwrap(), ["ab", "c"]);
    assert_eq!(read("|S3", &[1], b"a\0b").to_strings().unwrap(), ["a\0b"]);
    assert!(words.to_f64().is_err());
}

#[test]
fn what_is_wrong_is_named() {
    let bad = |bytes: Vec<u8>| read_npy(bytes).unwrap_err().to_string();
    let cases = [
        (b"no".to_vec(), "first bytes"),
        (
            b"\x93NUMPY\x09\x00\x00\x00\x00\x00".to_vec(),
            "unknown version",
        ),
        (
            b"\x93NUMPY\x02\x00\xFF\xFF\xFF\xFF{".to_vec(),
            "a header of more than 64 kB",
        ),
        (b"\x93NUMPY\x01\x00\xFF\x00{".to_vec(), "cut short"),
        (
            npy("<f4", false, &[2], &[0; 7]),
            "an array [2] of <f4 on 7 bytes",
        ),
        (npy("<f4", false, &[usize::MAX, 8], &[]), "on 0 bytes"),
        (npy("|O", false, &[2], &[]), "objects need a pickle"),
        (npy("<f16", false, &[1], &[0; 16]), "elements '<f16'"),
    ];
    for (bytes, expected) in cases {
        let message = bad(bytes);
        assert!(message.contains(expected), "{message}");
        assert!(!message.trim_end().contains('\n'), "{message}");
    }
}

proptest! {
    #[test]
    fn fortran_order_is_another_order_of_the_same(
        dims in proptest::collection::vec(1usize..20, 1..5), big in any::<bool>(),
    ) {
        let n: usize = dims.iter().product();
        let bytes = |v: f32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
        let descr = if big { ">f4" } else { "<f4" };
        let expected: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let c: Vec<u8> = expected.iter().flat_map(|v| bytes(*v)).collect();
        prop_assert_eq!(read(descr, &dims, &c).to_f32().unwrap(), expected.clone());
        // Element (i, j, ...) lies at i + n (j + ...) in Fortran order.
        let mut f = vec![0u8; 4 * n];
        for (at, value) in expected.iter().enumerate() {
            let (mut rest, mut place, mut stride) = (at, 0, n);
            for d in dims.iter().rev() {
                stride /= d;
                place += rest % d * stride;
                rest /= d;
            }
            f[4 * place..][..4].copy_from_slice(&bytes(*value));
        }
        let array = read_npy(npy(descr, true, &dims, &f)).unwrap();
        prop_assert_eq!(array.to_f32().unwrap(), expected);
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_npy(bytes.clone());
        let _ = read_npy([b"\x93NUMPY\x01\x00\x76\x00{'descr': '".as_slice(), &bytes].concat());
    }
}

#[test]
fn one_array_is_a_data_set_of_one_modality() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audio.npy");
    let data: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    std::fs::write(&file, npy("<f4", true, &[3, 2], &data)).unwrap();
    let data = Dataset::open(&file).unwrap();
    assert_eq!(data.modalities()[0].name(), "audio");
    let batch = data
        .batch(&[2, 0], candle_core::DType::F32, &candle_core::Device::Cpu)
        .unwrap();
    let got = batch.sequences[0].features.flatten_all().unwrap();
    assert_eq!(got.to_vec1::<f32>().unwrap(), [2., 5., 0., 3.]);
}
