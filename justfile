# What there is to run.
default:
    @just --list

# All tests.
test:
    cargo test --all-features

# Formatting and lints, as the checks want them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --exclude cloakroom-peers --all-targets --all-features -- -D warnings

# One bench, or all: `just bench session_paths --quick`.
bench name="session_paths write_amplification" *args="":
    for name in {{ name }}; do cargo bench --bench "$name" -- {{ args }} || exit 1; done

# Beside other engines: `just peers durable_commits --quick`, `just peers --help`.
peers *args="":
    cargo run --release -p cloakroom-peers -- {{ args }}

# The fault harness, for a while: `just torture --minutes 10`, `just torture kill --help`.
torture *args="":
    cargo run --release -p cloakroom-torture -- {{ args }}

# The example: http://127.0.0.1:3000
example *args="":
    cargo run --release --example counter -- {{ args }}

# The documentation, warnings refused.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc -p cloakroom --no-deps --all-features

# All that must hold before a change goes in.
ci:
    .ci/run
