#include "base/id.h"

#include <stdlib.h>
#include <sys/random.h>

/* xorshift128+: state per thread, so no lock and no shared line. */
static _Thread_local uint64_t random_state[2];

static void seed(void)
{
    if (getrandom(random_state, sizeof random_state, 0) != (ssize_t)sizeof random_state)
        abort(); /* the kernel promises up to 256 bytes whole */
    random_state[0] |= 1;
}

uint64_t id_random(void)
{
    if (random_state[0] == 0 && random_state[1] == 0)
        seed();
    uint64_t a = random_state[0], b = random_state[1];
    random_state[0] = b;
    a ^= a << 23;
    random_state[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
    return random_state[1] + b;
}

int64_t id_random_below(int64_t bound)
{
    return bound <= 0 ? 0 : (int64_t)(id_random() % (uint64_t)bound);
}

const char *id_new(wall_time now, char out[ID_TEXT_BYTES])
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    uint64_t ms = (uint64_t)now.ms, high = id_random(), low = id_random();
    for (int i = 9; i >= 0; i--, ms >>= 5)
        out[i] = digits[ms & 31];
    for (int i = 10; i < 18; i++, high >>= 5)
        out[i] = digits[high & 31];
    for (int i = 18; i < 26; i++, low >>= 5)
        out[i] = digits[low & 31];
    out[26] = '\0';
    return out;
}
