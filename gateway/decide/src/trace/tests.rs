#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const RANDOM: Random = Random { trace: 7, span: 9, name: 0xab };

fn headers(pairs: &[(&HeaderName, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&HeaderName, &str)| ((*name).clone(), HeaderValue::from_str(value).unwrap());
    pairs.iter().map(pair).collect()
}

/// What goes on of a request that came with these.
fn passed_on(pairs: &[(&HeaderName, &str)]) -> (Span, HeaderMap) {
    let mut headers = headers(pairs);
    let marks = Marks::of(&headers, RANDOM);
    marks.write(&mut headers);
    (marks.span, headers)
}

#[test]
fn a_trace_is_continued_with_a_place_of_our_own() {
    let (span, headers) = passed_on(&[(&TRACEPARENT, PARENT), (&TRACESTATE, "congo=t61rcWkgMzE, rojo@x=00f0")]);
    assert_eq!((span.trace, span.id), (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 9));
    assert_eq!(headers.get(TRACEPARENT).unwrap(), "00-0af7651916cd43dd8448eb211c80319c-0000000000000009-01");
    assert_eq!(headers.get(TRACESTATE).unwrap(), "congo=t61rcWkgMzE, rojo@x=00f0");
}

#[test]
fn what_is_not_sampled_stays_so_and_unknown_flags_go() {
    let flags = |given: &str| {
        let (_, headers) = passed_on(&[(&TRACEPARENT, &(PARENT.trim_end_matches("01").to_owned() + given))]);
        headers.get(TRACEPARENT).unwrap().to_str().unwrap().rsplit('-').next().unwrap().to_owned()
    };
    assert_eq!(["00", "01", "02", "ff", "fc"].map(flags), ["00", "01", "02", "03", "00"]);
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known() {
    for later in ["cc-", "01-", "fe-"] {
        let parent = PARENT.replacen("00-", later, 1);
        assert!(Span::parse(parent.as_bytes()).is_some(), "{parent}");
        assert!(Span::parse(format!("{parent}-what.the-future").as_bytes()).is_some());
        assert!(Span::parse(format!("{parent}.").as_bytes()).is_none());
    }
}

#[test]
fn what_is_wrong_in_any_way_begins_a_new_trace() {
    let wrong = [
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-00",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
        "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
        " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
    ];
    for text in wrong {
        let (span, headers) = passed_on(&[(&TRACEPARENT, text), (&TRACESTATE, "congo=1")]);
        assert_eq!((span.trace, span.id), (7, 9), "{text}");
        assert!(!headers.contains_key(TRACESTATE), "what belongs to no trace goes: {text}");
    }
    let (span, _) = passed_on(&[(&TRACEPARENT, PARENT), (&TRACEPARENT, PARENT)]);
    assert_eq!(span.trace, 7, "two are none");
}

#[test]
fn no_identifier_is_ever_zero() {
    let span = Span::of(&HeaderMap::new(), (0, 0));
    assert_eq!(Span::parse(&span.header()).map(|read| (read.trace, read.id)), Some((1, 1)));
}

#[test]
fn a_tracestate_that_is_none_goes_and_the_trace_stays() {
    let many = (0..33).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
    for wrong in ["congo", "Congo=1", "=1", "congo=", "a b=1", "congo=a=b", many.as_str(), "_a=1", "a=\tb"] {
        let (span, headers) = passed_on(&[(&TRACEPARENT, PARENT), (&TRACESTATE, wrong)]);
        assert!(!headers.contains_key(TRACESTATE) && span.trace != 7, "{wrong}");
    }
    for right in ["a=1", "a=1,,b=2", " a=1 , b=2 ", "0a/b*c-d_e@f= x ~", &many.replacen("k0=v,", "", 1)] {
        assert!(passed_on(&[(&TRACEPARENT, PARENT), (&TRACESTATE, right)]).1.contains_key(TRACESTATE), "{right}");
    }
}

#[test]
fn a_name_is_taken_over_only_when_it_is_fit() {
    let id = |pairs: &[(&HeaderName, &str)]| Marks::of(&headers(pairs), RANDOM).request_id.to_str().unwrap().to_owned();
    let random = "000000000000000000000000000000ab";
    let longest = "x".repeat(LONGEST_NAME);
    assert_eq!(id(&[(&REQUEST_ID, "order-17/4")]), "order-17/4");
    assert_eq!(id(&[(&REQUEST_ID, &longest)]), longest);
    for wrong in ["", "a b", "a\tb", &(longest.clone() + "x")] {
        assert_eq!(id(&[(&REQUEST_ID, wrong)]), random, "{wrong:?}");
    }
    assert_eq!(id(&[]), random);
    assert_eq!(id(&[(&REQUEST_ID, "a"), (&REQUEST_ID, "a")]), random);
    let mut headers = HeaderMap::new();
    headers.insert(REQUEST_ID, HeaderValue::from_bytes(b"caf\xe9").unwrap());
    assert_eq!(Marks::of(&headers, RANDOM).request_id, random);
}

proptest! {
    #[test]
    fn what_is_written_is_read(trace in 1_u128.., id in 1_u64.., flags in 0_u8..4) {
        let span = Span { trace, id, flags, continued: true };
        prop_assert_eq!(Span::parse(&span.header()), Some(span));
    }

    #[test]
    fn what_goes_on_is_always_right_whatever_came(
        parent in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            "[0-9a-f]{2}-[0-9a-f]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{2}(-.*)?".prop_map(String::into_bytes),
        ],
        state in prop::collection::vec(0x20_u8..0x7f, 0..60),
        name in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut headers = HeaderMap::new();
        for (key, value) in [(TRACEPARENT, parent), (TRACESTATE, state), (REQUEST_ID, name)] {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.insert(key, value);
            }
        }
        let marks = Marks::of(&headers, RANDOM);
        marks.write(&mut headers);
        let (span, id) = (marks.span, marks.request_id);
        prop_assert!((1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic));
        prop_assert_eq!(headers.get(REQUEST_ID), Some(&id));
        let sent = Span::parse(headers.get(TRACEPARENT).unwrap().as_bytes()).unwrap();
        prop_assert_eq!((sent.trace, sent.id), (span.trace, 9));
        prop_assert_eq!(headers.get(TRACEPARENT).unwrap().len(), LENGTH);
        prop_assert!(!headers.contains_key(TRACESTATE) || states_are_valid(&headers));
    }
}
