//! Counts instructions: the same each time, whoever else uses the machine.

use std::process::Command;

/// What can be counted: a name for the command line, what it is, and how it is done so many times.
pub(super) type Scenario = (&'static str, &'static str, fn(usize));

/// Little enough for valgrind, many enough that what happens once in a while is in the mean.
const COUNTED: usize = 2000;

/// Prints how many instructions each of `scenarios` takes for one more. Says whether this process was only started to be
/// counted, and is done.
pub(super) fn count(scenarios: &[Scenario]) -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [name, times] = &arguments[..] {
        let (_, _, run) = scenarios.iter().find(|(known, ..)| known == name).unwrap();
        run(times.parse().unwrap());
        return true;
    }
    println!("\ninstructions");
    for (name, title, _) in scenarios {
        let Some((once, twice)) = instructions(name, COUNTED).zip(instructions(name, 2 * COUNTED)) else {
            println!("  valgrind is not there: apt-get install valgrind");
            break;
        };
        // What happens once does not count.
        println!("  {title:<50} {:>10.1}", (twice - once) / COUNTED as f64);
    }
    false
}

fn instructions(name: &str, times: usize) -> Option<f64> {
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args([name, &times.to_string()])
        .output();
    let report = String::from_utf8(valgrind.ok()?.stderr).unwrap();
    let counted = report.lines().find_map(|line| line.split_once("Collected : ")).unwrap().1;
    Some(counted.trim().parse().unwrap())
}
