//! The README shows the program that is compiled, and not another one.

#[test]
fn the_readme_shows_the_quickstart_example() {
    let readme = include_str!("../../README.md");
    let quickstart = include_str!("../examples/quickstart.rs");
    let shown = format!("```rust\n{quickstart}```\n");
    assert!(readme.contains(&shown), "README.md does not show examples/quickstart.rs as it is");
}
