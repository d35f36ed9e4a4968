//! The helpers find faults: a comparison that cannot fail proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use decalign_core::nn;
use decalign_testkit::{
    Case, assert_close, assert_relative, check, largest_difference, normal, relative_difference,
    tensor,
};

fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

#[test]
fn a_wrong_value_or_gradient_fails_its_case() {
    let case = |scale: f64| {
        Case::new("scaled", vec![normal(&[2, 3], 0)], move |x| {
            Ok(vec![(nn::softmax(&x[0])? * scale)?])
        })
        .reference(|x| Ok(vec![nn::reference::softmax(&x[0])?]))
    };
    assert_eq!(case(1.0).run(), Ok(()));
    let message = case(1.001).run().unwrap_err();
    assert!(message.starts_with("scaled, reference: "), "{message}");
    let detached = Case::new("detached", vec![normal(&[2, 3], 0)], |x| {
        Ok(vec![nn::softmax(&x[0].detach())?])
    })
    .central_differences(1e-6);
    assert!(detached.run().is_err());
    let idle = Case::new("idle", vec![normal(&[2], 0)], |x| Ok(x.to_vec()));
    assert_eq!(idle.run(), Err("idle: the case names no engine".to_owned()));
    assert!(panics(|| check(Vec::new())));
}

#[test]
fn nan_differs_from_everything() {
    let (a, b) = (tensor(&[1.0, f64::NAN], &[2]), tensor(&[1.0, 2.0], &[2]));
    assert!(largest_difference(&a, &b).is_nan() && relative_difference(&a, &b).is_nan());
    assert!(panics(|| assert_close(&a, &a, 1.0)));
    assert!(panics(|| assert_relative(&a, &b, 1.0)));
    assert_relative(&b, &tensor(&[1.0, 2.0 + 1e-9], &[2]), 1e-9);
}
