// One small good file of each kind, as Python writes it, compressed:
// torch.save({"model": {"w": randn(12, 10), "b": ones(3)}, "args": Namespace(x=1, y=[2, (3,)]), "array": np.arange(6.0)}),
// np.savez_compressed(w=np.eye(12), f=a (12, 10) array of ">f4" in Fortran's order) and
// safetensors.torch.save({"w": randn(12, 10), "i": arange(3)}).

import { inflateSync } from "node:zlib";

const unpacked = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(inflateSync(Buffer.from(text, "base64")));

export const TORCH = unpacked(
  "eNqlVntMU1ccvm2h1GuLRQQEnxsoVbEPoA+U3tPV2SXeWFiN0jlJV9or7ejrtLcoThY2VhDNmFHMlviKcSZmKlNnxh5yj2K2MXVO9geZG7Chyx" +
  "7Zli1OExNd2L1txbYG3NxJTn/n3nu+3/nO737nu60mBWkYJhJhDzUpNh2zBx0udyOlcNppuzzQ4DEZM7H1Sa2F3wwxmTWdBXj9TsoDec2QL7Py" +
  "2OtNUOCg/WwGuS1Muz0h3Bak6sJuj9NGU76QP2hrLMVhmkxmzWAnh9iZ9noKpscguMnjt9NrYjdxKIwmVMIMq4CNjkAYisjNNJzyLImRYhJvgz" +
  "iJk7w2OLXD4fB7PJSDdvt9Ibwq6KSClPNpt4PGoXiRBUpomGmB06LZ6qDUxa7uSnfFsqtglktECmg4ncsqiMBskheBMzpcHDCHhrkWmBe2ssVi" +
  "q1IfgjMdbAjYgyEKN9u9VChgd7BE8xe9Agua4axYBTbD2SQvOmqCc2rhXBnJ5xLPo8J10YrZg0F7E5zv8IW9gSa5zeEPUnJv2EO7ow+4ejnYbd" +
  "DBMMf/idg03OeMPYVPklgEFjpYmJNyhHDKxw1wWBTf3QKrkI0eO+32qeDCNlhsgbJ2yO5lsYzkkcIIXBJP6KSbAiyuxMpn52/UwaUd29qh3AIV" +
  "MlIQzVUJlWazedUY26I/JEZDVV2Hq8iqekg1F06C+MgQC6J4lMbjDAMsdbF0yiywnIbqurC8mswQXTnYjq9g1+d69YSSzMN045KUb/QHvXba1k" +
  "gFQ+zLNhnLU5T575qKW73nj6FWbqNcn3j1Akz7YPW4Xm12j7ve56V8tMlY9jgENOUcAbAJ/sJVnz8pgSwMjBOoa6IpPydvk3H5Y2083jxumvZQ" +
  "HIeI/kY+pxjhpBwyMSLJFRRKk3HZ/yAQmbUTbW/ZjQbJFqZ2wQiTs/I50FqsAt7Lh5jztoxzOt4R4taZQ2hM+R7x8YX9xCb/bf3uhgOg82Yn2K" +
  "ppZvoKTyDTjGsoTZoFagtJsGN1Pnhe8hm6+Gk3Y1b8DhrEBrDkRg76tVPFvD26nDg3eApgkktgnyEIyu7WoP7sOchZz9PLDPeYwAsvE1fnjRKD" +
  "2h/1d/AiUPndKPFh+0DvvuFVYE1VF5M3vUav+CYdrK3JNvSknUUHZl5CB6tK0Ai0gVs57eCd2RpCOtzAiLr6mdqcqSDPcpHpavyBKdpMgPC7fe" +
  "DEyvWGa39fQIV39qO+334G95QSRHyUhUBrA6hQdIK3Co6AK+W9aMfqIkNf5U2m6otjxPnXryLsrBgNHr/NGAfHmKu7tqGa9ztBiVjKjKw0gw1L" +
  "UW/bdQUY3LsOLfjcvczWVgOeGbjM5Eki4GtbD3H8p5cY34Zsg+rbP9HObrJ36HwE6YdpdMY6RV/ZrwafHPsKpBV0o9EXTxKS3HRwwlB8LnvhNa" +
  "T9wM2sWPcGIXmzDBWffg3M316AuroPo1MbGH1rZDG6e3QW2HN9GSJ4J8GeYRkgx/4ianNfRfNO64j84WF9fuVT6LB8C8Epq//Loz3fs2eL65Mp" +
  "qyhZWSqTcf4jlYVhLeB+59bqMm8dErPZxJOqeFrCUR43kMc6v2U4t+rAgfq1jz6/c7HSBwYS3WKICrpZB9li575XNrfTZJT/RxJKtUalUurUpW" +
  "UaVYVGq1SXVpQrtWVqrVqn1ai0FWpdubKCvcmxPLR3ZEDG8pBFWfL4UXuO80w0YOlDzFP/B6SiEw00Lwm5m49NZNmpSRJNsCDZ+ATYJM6bmifR" +
  "yLKS8uxKyDNuoKnwRLVmJsFz07AU70vFJqovGRsQpmBVqdhEDU1Lwg4lYCeoXeKrnZsEtmRgjxBdNSkUltyXqGDpOFKUEqfyY/FORiyyuOhIgM" +
  "euY1/PdGEMI4rOj839B3yC2Hw=",
);
export const NPZ = unpacked(
  "eNoL8GZm0WVgYOAAYkWGwn/Lz/+HAlYGEYZyvbyCSkYGAQYGVgYwiIZQDLPfiL+SFjh5IuBYwNp5k6LmxCzJW7ogb3LawnWLF8ybFh8SNGWG+P" +
  "z4KZO4hMq9z2j6sXaJp6uILWH6KdXmZsXV5jbLimsrVwqTHpvBj4TzDuIGWedX2C7+1nOreQM7QwCKiy5kxq1EdlEazEUJTBCXBDJC6LkXDmq7" +
  "BIoc/7haR4UbCLp3B+RfiT6TITapIF9MLENsscbRlHsm3DNfnp3g5DlLxdNjkoonCkrJfFn9j3W93eXd6XXv51W/y/HOLl5i6/91taP6u9Rdtc" +
  "ujrLd2bnicpT7x0+a6NduNnx63Xen+166/SE3Su1qHeaFXeHuT6Dq5a/9ruUT7L0Yc7A+aVn67w0TN8e67h0z+Xld7J3AnMe+/cupii86yDV21" +
  "MY8iV1bdnC+/+fCscmkHFuYZx6T4ClrFP016Wq+8tWZHRxKHccRxxXUfveLOXW4Vvsb6IGcb75W3MhbLbQ/x3jtxes6ZtJR5Si0XGwPPJAsf33" +
  "HUuvKb6SXnffpuoi/Sj29o0PV4b10zIZ3NuI/9muoKRxlLnSTp5TuOq1vulH938MNcXdbPt1VuHNZzfPeWZ9N9cctzCS+yX6SevtAg55Mgudvi" +
  "uPK+qb+YA7wZmXSZUdMGOPpZ4akBDBrAEQBOKehaQJEHih9QXKFqmQQk0yBaWNlAQkxAmAakpcDRCgAuYPO2",
);
export const SAFETENSORS = unpacked(
  "eNpljV1IU3EYxnWpNftCmV9BpEe20o62s6nZ2s47XHrmRTrBvFCHDudSKXU4aqlLwghCS8oYmDlZX1YSlmVmuv+71Y2WSVBRocgqlS7m1dgUcp" +
  "aSF0LPzY/ngR+POehfmqhqStZE6U3n6ispGZWbkUbRVEOVbr2VSLU0pdeZdGV1BkNDpalhbRLTkjSthabObrZypJJNFiOhGfH/piSNThevuZb4" +
  "9WzcBwVvkLfBLUvXIEbw0rH4UQY1Ug/a/JNjbm4A+nckKyfEzRDY62JVvnZoy7mOQm+c4l0HrbyQYoN5fzgcuBwGFQWFuBL/HFvlH6CiSsy+yJ" +
  "7C1EYfsb2NJEbTbbJ1OhJOm1sgkLQdJHq7wjBXCq8e9I6phizQG8ehR91F5tVKQsl9cPeJGF5bBc7lxC50unLZ94NWDL76S9F38gr8uTGIb7K8" +
  "bJFGg66bp4DPWUjtwSG8N94MjfUERUw0pMZSrHX8u+JRTwH6VhJAU+pDgacPQt1FpG2fGs6XWiD/xCc2T+jC2jye8j6GsaOfeVhXMo3dnTxkhF" +
  "7iFFGYNTuK+rlyNIWEOi/OtCNXnIm0WSUf9j9mj/y8RDQLd0D0wybXNuvQbnWz/PJDY0x+P6Ts6iCrx3aibiHTGcG5MCO6FQRRajb9mRwXb32D" +
  "ZNVT1t5thkn7CIzYCh1f3PFYXbYfJYkzQAefQa00EWv4XYqk4t0QEb4NjDE22JOd4FCnHMeV4QApix0hvyeiIGy5E9mpSCKo4cjs0QGHvWUQjF" +
  "OxsHB4iXDGUTI98xA9q19ByIQo/wLTxgjJ",
);
