/*
 * wire.h - MongoDB's wire protocol on TCP: listening, framing, a thread a connection.
 *
 * Users: main. Depends on: commands.
 */
#ifndef DEVSTORE_WIRE_H
#define DEVSTORE_WIRE_H

#include "commands.h"

struct listener;

/* address: host:port, port 0 chooses one. NULL with a sentence in message: cannot listen there. */
struct listener *listener_open(const char *address, char message[256]);
void listener_name(const struct listener *listener, char text[64]);
/* Serves until stop_fd of the server becomes readable, then ends all connections. */
void listener_serve(struct listener *listener, struct server *server);
void listener_close(struct listener *listener);

#endif
