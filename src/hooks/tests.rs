use reqwest::StatusCode;

use super::*;

fn read(status: u16, json: bool, body: &str) -> HookAnswer {
    answer::read(StatusCode::from_u16(status).unwrap(), json, None, body.as_bytes())
}

#[test]
fn flaggers_and_kusions_answers_mean_what_they_mean_there() {
    let ok = |m: &str| HookAnswer::Ok { message: m.into() };
    let error = |m: &str| HookAnswer::Error { message: m.into() };
    let processing = |m: &str| HookAnswer::Processing { message: m.into(), again: None };
    for (status, json, body, expected) in [
        (200, false, "", ok("")),
        (202, false, "accepted", ok("")),
        (204, true, "", ok("")),
        (200, true, r#"{"anything": 1}"#, ok("")),
        (200, true, r#"{"code": "OK", "message": "all well"}"#, ok("all well")),
        (
            200,
            true,
            r#"{"code": "Processing", "reason": "2 of 5", "podNames": ["a"]}"#,
            processing("2 of 5"),
        ),
        (
            200,
            true,
            r#"{"status": {"code": "Error", "reason": "Quota", "message": "none"}}"#,
            error("Quota: none"),
        ),
        (200, false, r#"{"code": "Error"}"#, error("it answered Error without a reason")),
        (
            200,
            true,
            r#"{"code": "Maybe"}"#,
            error("its code \"Maybe\" is none of OK, Error and Processing"),
        ),
        (200, true, "{oops", error("its answer is no JSON: {oops")),
        (500, false, "out of\norder", error("it answered 500 Internal Server Error: out of order")),
        (503, false, "", error("it answered 503 Service Unavailable")),
        (404, true, r#"{"reason": "gone"}"#, error("it answered 404 Not Found: gone")),
        (
            302,
            false,
            "",
            error("it answered 302 Found: redirects are not followed, write that address"),
        ),
    ] {
        assert_eq!(read(status, json, body), expected, "{status} {body}");
    }
}

#[test]
fn a_code_never_turns_a_failed_status_into_success() {
    assert!(matches!(read(500, true, r#"{"code": "OK"}"#), HookAnswer::Error { .. }));
}

#[test]
fn long_words_are_shortened() {
    let HookAnswer::Error { message } = read(500, false, &"x".repeat(10_000)) else { panic!() };
    assert!(message.len() < 400, "{}", message.len());
}

#[test]
fn a_signature_is_the_one_of_standard_webhooks() {
    // The example that the standard's libraries are tested with.
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let body = br#"{"test": 2432232314}"#;
    let signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
    assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert_eq!(signature("short", "a", 0, b""), Err(SignError::Short(5)));
    assert_eq!(signature("whsec_%", "a", 0, b""), Err(SignError::Coding));
    assert!(signature("a-key-of-thirty-two-bytes-in-all", "a", 0, b"").is_ok());
}
