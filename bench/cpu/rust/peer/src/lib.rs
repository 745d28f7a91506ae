//! What the peers in Rust share: the files of a job, and the requests that bench/common/server.py describes.

use backprop_data::{Values, npy};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::{collections::HashMap, fs, io, path::Path, time::Instant};

/// What goes wrong ends the request that it belongs to.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Makes one whole training step on the batch of its job and gives the loss.
pub type Step = Box<dyn FnMut() -> Result<f32>>;

/// A workload with its first weights and its batch.
pub struct Job {
    /// `w1` to `w8`.
    pub workload: String,
    weights: HashMap<String, (Vec<usize>, Vec<f32>)>,
    /// Sizes and elements of the batch's inputs; images are channel-last.
    pub x: (Vec<usize>, Values),
    /// The same of its targets.
    pub y: (Vec<usize>, Values),
}

impl Job {
    fn read(request: &Value) -> Result<Job> {
        let file = |key: &str| request[key].as_str().ok_or(format!("the request has no {key}"));
        let workload = Path::new(file("model")?).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(file("weights")?)?;
        let mut weights = HashMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.iter() {
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            weights.insert(name.to_owned(), (view.shape().to_vec(), values));
        }
        let bytes = fs::read(file("data")?)?;
        let array = |name: &str| -> Result<(Vec<usize>, Values)> {
            let array = npy::parse_npz(file("data")?, &bytes, name)?;
            // One batch.
            Ok((array.sizes[1..].to_vec(), array.values))
        };
        Ok(Job { workload, weights, x: array("x")?, y: array("y")? })
    }

    /// Sizes and elements of a tensor by backprop's name.
    pub fn weight(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        self.weights.get(name).cloned().ok_or_else(|| format!("the weights lack {name}").into())
    }

    /// Real inputs; images become channel-first.
    pub fn reals(&self) -> Result<(Vec<usize>, Vec<f32>)> {
        let (sizes, Values::F32(values)) = &self.x else { return Err("x holds no real numbers".into()) };
        let &[n, h, w, c] = &sizes[..] else { return Ok((sizes.clone(), values.clone())) };
        let at = |i: usize| {
            let (image, channel, pixel) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
            values[(image * h * w + pixel) * c + channel]
        };
        Ok((vec![n, c, h, w], (0..values.len()).map(at).collect()))
    }

    /// Tokens.
    pub fn tokens(&self) -> Result<Vec<i64>> {
        whole(&self.x.1)
    }

    /// Classes.
    pub fn classes(&self) -> Result<Vec<i64>> {
        whole(&self.y.1)
    }
}

fn whole(values: &Values) -> Result<Vec<i64>> {
    match values {
        Values::I32(values) => Ok(values.iter().map(|&v| v.into()).collect()),
        _ => Err("whole numbers of 32 bits are expected".into()),
    }
}

/// A job under way.
struct Running<'b> {
    job: Job,
    build: &'b dyn Fn(&Job) -> Result<Step>,
    step: Step,
}

impl Running<'_> {
    /// Milliseconds of each of so many steps.
    fn times(&mut self, steps: usize) -> Result<Vec<f64>> {
        let mut time = |_| -> Result<f64> {
            let start = Instant::now();
            (self.step)()?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        };
        (0..steps).map(&mut time).collect()
    }

    fn losses(&mut self, count: usize) -> Result<Value> {
        self.step = (self.build)(&self.job)?;
        let losses: Result<Vec<f32>> = (0..count).map(|_| (self.step)()).collect();
        Ok(json!({ "losses": losses? }))
    }

    /// Windows of steps until the seconds are over.
    fn windows(&mut self, seconds: f64, steps: usize) -> Result<Value> {
        let (start, mut windows) = (Instant::now(), Vec::new());
        while windows.is_empty() || start.elapsed().as_secs_f64() < seconds {
            windows.push(self.times(steps)?.iter().sum::<f64>() / steps as f64);
        }
        Ok(json!({ "step_ms": windows, "steps": steps }))
    }
}

/// Answers each line of the standard input with one line; `build` makes the step of a job.
pub fn serve(engine: &str, version: &str, build: &dyn Fn(&Job) -> Result<Step>) {
    let mut running = None;
    for line in io::stdin().lines().map_while(io::Result::ok) {
        let answer = answer(engine, version, build, &mut running, &line);
        println!("{}", answer.unwrap_or_else(|error| json!({ "error": error.to_string() })));
    }
}

fn answer<'b>(
    engine: &str,
    version: &str,
    build: &'b dyn Fn(&Job) -> Result<Step>,
    running: &mut Option<Running<'b>>,
    line: &str,
) -> Result<Value> {
    let request: Value = serde_json::from_str(line)?;
    if request["model"].is_string() {
        // What the job before held is given back first.
        *running = None;
        let start = Instant::now();
        let job = Job::read(&request)?;
        let step = build(&job)?;
        let running = running.insert(Running { job, build, step });
        running.times(1)?;
        let compile_s = start.elapsed().as_secs_f64();
        let warm_up = request["warm_up"].as_u64().unwrap_or(20) as usize;
        running.times(warm_up)?;
        let step_ms = running.times(warm_up)?.iter().sum::<f64>() / warm_up as f64;
        let model = &running.job.workload;
        return Ok(
            json!({ "engine": engine, "version": version, "model": model, "device": "cpu", "compile_s": compile_s, "step_ms": step_ms }),
        );
    }
    let running = running.as_mut().ok_or("no model is prepared")?;
    match (&request["losses"], &request["window"]) {
        (Value::Number(count), _) => running.losses(count.as_u64().unwrap_or(1) as usize),
        (_, Value::Number(seconds)) => {
            running.windows(seconds.as_f64().unwrap_or(1.0), request["steps"].as_u64().unwrap_or(1).max(1) as usize)
        }
        _ => Err("this is no request".into()),
    }
}
