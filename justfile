# Lists the recipes.
default:
    @just --list

# Runs all tests.
test:
    cargo test --all-features

# Checks formatting and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --exclude cloakroom-peers --all-targets --all-features -- -D warnings

# Runs one bench or all: `just bench session_paths --quick`.
bench name="session_paths write_amplification" *args="":
    for name in {{ name }}; do cargo bench --bench "$name" -- {{ args }} || exit 1; done

# Compares with other engines: `just peers durable_commits --quick`, `just peers --help`.
peers *args="":
    cargo run --release -p cloakroom-peers -- {{ args }}

# Runs the fault harness: `just torture --minutes 10`, `just torture kill --help`.
torture *args="":
    cargo run --release -p cloakroom-torture -- {{ args }}

# Runs the example on http://127.0.0.1:3000.
example *args="":
    cargo run --release --example counter -- {{ args }}

# Builds the documentation; warnings are errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc -p cloakroom --no-deps --all-features

# Runs all checks that a change must pass.
ci:
    .ci/run
