// The other server: socket.io with rooms, on websockets only.
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const http = createServer();
const io = new Server(http, { transports: ['websocket'], perMessageDeflate: false });
io.on('connection', (socket) => {
  socket.on('join', (room, done) => {
    socket.join(room);
    done();
  });
  socket.on('message', (room, payload) => io.to(room).emit('message', payload));
});
http.listen(0, '127.0.0.1', () => process.send({ port: http.address().port }));
