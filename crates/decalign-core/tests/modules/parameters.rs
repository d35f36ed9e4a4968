//! Named parameters.

use candle_core::{DType, Device, Tensor};
use decalign_core::Result;
use decalign_core::nn::{Init, Parameters};

#[test]
fn order_of_construction_does_not_matter() -> Result<()> {
    let draw = |names: [&str; 2]| -> Result<Vec<f64>> {
        let set = Parameters::new(3, DType::F64, &Device::Cpu);
        for name in names {
            set.get(name, (2, 2), Init::XavierUniform)?;
        }
        let mut all = Vec::new();
        for (_, var) in set.named() {
            all.extend(var.flatten_all()?.to_vec1::<f64>()?);
        }
        Ok(all)
    };
    assert_eq!(draw(["a", "b"])?, draw(["b", "a"])?);
    let set = Parameters::new(3, DType::F64, &Device::Cpu);
    set.scope("x").get("w", 1, Init::Constant(1.0))?;
    set.scope("xy").get("w", 1, Init::Constant(2.0))?;
    assert_eq!((set.scope("x").within().len(), set.within().len()), (1, 2));
    Ok(())
}

#[test]
fn load_names_what_differs() -> Result<()> {
    let set = Parameters::new(3, DType::F32, &Device::Cpu);
    let weight = set.get("w", (2, 2), Init::Constant(0.0))?;
    let one = Tensor::ones((2, 2), DType::F64, &Device::Cpu)?;
    let load = |pairs: &[(&str, &Tensor)]| {
        set.load(
            &pairs
                .iter()
                .map(|(n, t)| (n.to_string(), (*t).clone()))
                .collect(),
        )
    };
    assert!(load(&[]).unwrap_err().to_string().contains("weight w"));
    assert!(
        load(&[("w", &one), ("x", &one)])
            .unwrap_err()
            .to_string()
            .contains("weight x")
    );
    assert!(
        load(&[("w", &one.narrow(0, 0, 1)?)])
            .unwrap_err()
            .to_string()
            .contains("[2, 2]")
    );
    load(&[("w", &one)])?;
    // Tensors handed out before share the new values.
    assert_eq!(weight.sum_all()?.to_scalar::<f32>()?, 4.0);
    Ok(())
}
