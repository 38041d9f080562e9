/*
 * wire.h - MongoDB's wire protocol on TCP: listening, framing, a thread a connection.
 */
#ifndef DEVSTORE_WIRE_H
#define DEVSTORE_WIRE_H

#include "commands.h"

/* A listening socket at host:port, port 0 chooses one; -1 with a sentence in message. */
int listener_open(const char *address, char message[256]);
void listener_name(int listener, char text[64]);
/* Serves until stop_fd of the server becomes readable, then until all connections have ended. */
void listener_serve(int listener, struct server *server);

#endif
