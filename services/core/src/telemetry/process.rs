//! The process itself, under the names that Prometheus' own clients use: `process_*`.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Reads `/proc` at each scrape. What cannot be read has no sample.
#[derive(Debug)]
pub struct Process;

/// What one scrape has read.
struct Reading {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: i64,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Reading {
    fn new() -> procfs::ProcResult<Self> {
        let process = procfs::process::Process::myself()?;
        let stat = process.stat()?;
        let ticks = procfs::ticks_per_second() as f64;
        let limit = process.limits().ok().map(|all| all.max_open_files);
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            start_seconds: procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks,
            resident_bytes: stat.rss * procfs::page_size(),
            virtual_bytes: stat.vsize,
            threads: stat.num_threads,
            open_fds: process.fd_count().ok().map(|count| count as u64),
            max_fds: limit.and_then(|limit| match limit.soft_limit {
                procfs::process::LimitValue::Value(value) => Some(value),
                procfs::process::LimitValue::Unlimited => None,
            }),
        })
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Ok(reading) = Reading::new() else {
            return Ok(());
        };
        let cpu = encoder.encode_descriptor(
            "process_cpu",
            "Time on a processor, user and system",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        ConstCounter::new(reading.cpu_seconds).encode(cpu)?;
        let mut gauge = |name, help, unit: Option<&Unit>, value: f64| {
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        gauge(
            "process_start_time",
            "When it started, since 1970",
            Some(&Unit::Seconds),
            reading.start_seconds,
        )?;
        gauge(
            "process_resident_memory",
            "Memory that it occupies",
            Some(&Unit::Bytes),
            reading.resident_bytes as f64,
        )?;
        gauge(
            "process_virtual_memory",
            "Address space that it has reserved",
            Some(&Unit::Bytes),
            reading.virtual_bytes as f64,
        )?;
        gauge(
            "process_threads",
            "Its threads",
            None,
            reading.threads as f64,
        )?;
        if let Some(count) = reading.open_fds {
            gauge(
                "process_open_fds",
                "Its open file descriptors",
                None,
                count as f64,
            )?;
        }
        if let Some(limit) = reading.max_fds {
            gauge(
                "process_max_fds",
                "How many file descriptors it may open",
                None,
                limit as f64,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{service::Service, telemetry::metrics::Metrics};

    fn sample(text: &str, name: &str) -> f64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .unwrap_or_else(|| panic!("{name} is missing in\n{text}"));
        line.parse().unwrap()
    }

    #[test]
    fn the_names_are_prometheus_own_and_the_values_are_of_this_process() {
        let text = Metrics::new(Service::TEST, vec![]).encode().unwrap();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let started = sample(&text, "process_start_time_seconds");
        assert!(started > 1e9 && started <= now.as_secs_f64() + 1.0);
        assert!(sample(&text, "process_cpu_seconds_total") >= 0.0);
        let resident = sample(&text, "process_resident_memory_bytes");
        assert!(resident > 1e5 && resident < sample(&text, "process_virtual_memory_bytes"));
        assert!(sample(&text, "process_threads") >= 1.0);
        let open = sample(&text, "process_open_fds");
        assert!(open >= 3.0 && open <= sample(&text, "process_max_fds"));
    }

    #[test]
    fn an_opened_file_is_counted() {
        let before = super::Reading::new().unwrap().open_fds.unwrap();
        // More than what tests beside this one close meanwhile.
        let files: Vec<_> = (0..200)
            .map(|_| std::fs::File::open("/dev/null").unwrap())
            .collect();
        let after = super::Reading::new().unwrap().open_fds.unwrap();
        assert!(after > before + 100, "{before} {after}");
        drop(files);
    }

    #[test]
    fn the_text_ends_once() {
        let text = Metrics::new(Service::TEST, vec![]).encode().unwrap();
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(text.matches("# EOF").count(), 1);
        assert!(text.contains("kijko_build_info{"));
    }
}
