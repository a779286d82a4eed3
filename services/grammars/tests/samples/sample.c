/* A ring buffer. */
#include <stdlib.h>
#include "ring.h"

#define RING_SIZE 64
#define RING_NEXT(i) (((i) + 1) % RING_SIZE)

struct node;

/* One entry. */
struct entry {
    int key;
    char *value;
    struct entry *next;
    int (*compare)(const void *, const void *);
    char name[16];
};

union number {
    long whole;
    double real;
};

enum color { RED, GREEN = 4 };

typedef struct {
    struct entry *head;
    unsigned count;
} ring_t;

typedef unsigned long ring_id;
typedef int (*visitor)(struct entry *, void *);

static int total = 0;
const char *const names[] = { "a", "b" };
extern int external_total;

static int hash(const char *text)
{
    int local = 5381;
    static const int FACTOR = 33;
    while (*text) local = local * FACTOR + *text++;
    return local;
}

// Makes a ring.
ring_t *ring_new(void)
{
    ring_t *ring = calloc(1, sizeof *ring);
    total++;
    return ring;
}

struct entry **ring_slots(ring_t *ring, visitor visit)
{
    visit(ring->head, NULL);
    ring->head->compare(ring, names[hash("a")]);
    return &ring->head;
}

int main(int argc, char **argv) { return ring_slots(ring_new(), 0) != 0; }
