/* For sanitized builds only: what libh2o 2.2.5 keeps for good by design, a stock of buffers and one queue a thread.
 * Linked in, so that the executable needs no environment to end clean and silent. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_options(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:h2o_mem_alloc_recycle\nleak:h2o_multithread_create_queue\n";
}

const char *__lsan_default_options(void)
{
    return "print_suppressions=0";
}
