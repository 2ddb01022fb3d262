// Package load is what the benchmarks of proxies have in common: an application that answers, load at full speed (h2load), at a fixed rate
// and one request at a time, the processor time of proxies meanwhile, and tables of medians.
package load
