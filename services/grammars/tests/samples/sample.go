// Package queue keeps jobs.
package queue

import (
	"context"
	m "math"
	. "strings"
)

// MaxJobs is the limit.
const MaxJobs = 100

const (
	StateNew State = iota
	StateDone
)

var ErrFull, ErrClosed = newError("full"), newError("closed")

// State of a job.
type State int

// Job is work.
type Job struct {
	Base
	ID    string
	state State
	run   func(context.Context) error
}

type Runner interface {
	Run(ctx context.Context) error
	Close()
}

type Alias = Job

type Stack[T any] struct {
	items []T
}

// Push adds an item.
func (s *Stack[T]) Push(item T) {
	local := append(s.items, item)
	s.items = local
}

func (j Job) Run(ctx context.Context) error {
	if m.Abs(1) > 0 && Contains(j.ID, "x") {
		return ErrFull
	}
	return j.run(ctx)
}

func New(id string) *Job {
	var job Job
	job.ID = id
	return &job
}

func newError(text string) error {
	return wrap[string](text)
}

func wrap[T any](value T) error { return nil }

type handler func(*Job) error

func init() { _ = New("a").Run(context.Background()) }
