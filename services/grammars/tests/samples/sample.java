package com.example.queue;

import java.util.List;
import static java.util.Objects.*;

/** A queue of jobs. */
@Deprecated
public abstract class JobQueue<T> extends AbstractList<T> implements Closeable, Iterable<T> {
    public static final int LIMIT = 100;
    private List<T> items, spare;
    protected final String name;

    public JobQueue(String name) {
        super();
        this.name = requireNonNull(name);
    }

    /** Adds one. */
    public boolean add(T item) {
        int local = items.size();
        return local < LIMIT && items.add(item);
    }

    abstract void flush() throws IOException;

    static <K extends Comparable<K>> K largest(List<K> all) {
        return all.stream().max(Comparable::compareTo).get();
    }

    enum State {
        NEW, DONE("d") { void go() {} };
        private final String code;
        State() { this("n"); }
        State(String code) { this.code = code; }
    }

    interface Listener {
        int PRIORITY = 3;
        void onDone(State state);
        default void onError(Exception e) { log(e); }
    }

    static class Node {
        Node next;
    }
}

record Point(int x, int y) {
    Point { if (x < 0) throw new IllegalArgumentException(); }
    double length() { return Math.sqrt(x * x + y * y); }
}

@interface Retry {
    int times() default 3;
}
