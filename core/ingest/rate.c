#include "ingest/rate.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/memory.h"

struct bucket {
    char *source;
    double per_second, burst, tokens;
    mono_time filled;
};

struct rate {
    pthread_mutex_t lock;
    struct bucket *buckets; /* limited sources only; few, so looked through in order */
    size_t n;
};

struct rate *rate_new(void)
{
    struct rate *rate = memory_alloc(sizeof *rate);
    pthread_mutex_init(&rate->lock, NULL);
    return rate;
}

static void free_buckets(struct bucket *buckets, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(buckets[i].source);
    free(buckets);
}

void rate_free(struct rate *rate)
{
    if (rate == NULL)
        return;
    free_buckets(rate->buckets, rate->n);
    pthread_mutex_destroy(&rate->lock);
    free(rate);
}

static struct bucket *find(struct rate *rate, struct slice source)
{
    for (size_t i = 0; i < rate->n; i++) {
        if (slice_is(source, rate->buckets[i].source))
            return &rate->buckets[i];
    }
    return NULL;
}

static void refill(struct bucket *bucket, mono_time now)
{
    double seconds = (double)(now.us - bucket->filled.us) / 1e6;
    bucket->tokens = fmin(bucket->burst, bucket->tokens + seconds * bucket->per_second);
    bucket->filled = now;
}

static struct bucket bucket_of(struct rate *old, const struct rate_limit *limit, mono_time now)
{
    double burst = limit->burst >= 1 ? limit->burst : fmax(1, limit->per_second);
    struct bucket bucket = {memory_strdup(limit->source), limit->per_second, burst, burst, now};
    struct bucket *before = find(old, slice_of(limit->source));
    if (before != NULL) {
        refill(before, now);
        bucket.tokens = fmin(before->tokens, burst);
    }
    return bucket;
}

void rate_configure(struct rate *rate, const struct rate_limit *limits, size_t n, mono_time now)
{
    struct bucket *buckets = memory_alloc((n + 1) * sizeof *buckets);
    size_t kept = 0;
    pthread_mutex_lock(&rate->lock);
    for (size_t i = 0; i < n; i++) {
        if (limits[i].per_second > 0)
            buckets[kept++] = bucket_of(rate, &limits[i], now);
    }
    free_buckets(rate->buckets, rate->n);
    rate->buckets = buckets;
    rate->n = kept;
    pthread_mutex_unlock(&rate->lock);
}

bool rate_take(struct rate *rate, struct slice source, mono_time now, int64_t *wait_ms)
{
    bool taken = true;
    pthread_mutex_lock(&rate->lock);
    struct bucket *bucket = find(rate, source);
    if (bucket != NULL) {
        refill(bucket, now);
        taken = bucket->tokens >= 1;
        if (taken)
            bucket->tokens -= 1;
        else
            *wait_ms = (int64_t)fmin(ceil((1 - bucket->tokens) / bucket->per_second * 1000), 3600e3);
    }
    pthread_mutex_unlock(&rate->lock);
    return taken;
}
